// What several pages show. Fetched when events say that it changed, never by the clock, with one exception: what nodes
// use of their CPUs and memory comes with their heartbeats, for which there is no event.
import { effect, signal } from '@preact/signals'
import { get, who } from './api'
import { onEvents } from './live'
import type { Event, Node, Stats } from './types'

export const stats = signal<Stats | null>(null)
export const nodes = signal<Node[] | null>(null)

// Runs `fetch` when asked to, but not more often than every `pause` ms, never twice at a time, and not while nobody looks. `failure` is why
// the last one failed: of this fetch, since another one that succeeds says nothing of it.
export function refresher(fetch: () => Promise<void>, pause: () => number) {
  const failure = signal<unknown>(null)
  let busy = false, wanted = false, timer = 0, last = -1e9
  const run = async () => {
    timer = 0
    if (busy || document.hidden || !who.value) return
    busy = true
    wanted = false
    last = performance.now()
    try {
      await fetch()
      failure.value = null
    } catch (error) {
      failure.value = error
      wanted = true
    }
    busy = false
    if (wanted) ask()
  }
  const ask = () => {
    wanted = true
    if (!busy && !timer) timer = window.setTimeout(run, Math.max(0, last + pause() - performance.now()))
  }
  document.addEventListener('visibilitychange', () => wanted && ask())
  return Object.assign(ask, { failure })
}

export const askStats = refresher(async () => void (stats.value = await get<Stats>('/v1/stats')), () => 1000)

// A thousand nodes are half a megabyte: the more there are, the less often.
export const askNodes = refresher(
  async () => void (nodes.value = (await get<{ nodes: Node[] }>('/v1/nodes')).nodes),
  () => Math.max(1000, 5 * (nodes.value?.length ?? 0)),
)

// Of the events of a batch: is one about ...
export const concerns = (events: Event[] | null, start: string) => !events || events.some((e) => e.event.startsWith(start))

const viewers = signal(0) // parts of the page that show nodes
export function watchNodes(): () => void {
  viewers.value++
  return () => void viewers.value--
}

onEvents((events) => {
  askStats()
  if (viewers.peek() && (concerns(events, 'node.') || concerns(events, 'job.'))) askNodes()
})

effect(() => {
  if (!viewers.value || !who.value) return
  askNodes()
  const timer = setInterval(askNodes, 10_000)
  return () => clearInterval(timer)
})

// One clock for all running times on the page.
export const now = signal(Date.now())
setInterval(() => !document.hidden && (now.value = Date.now()), 1000)

// The stream of events: one connection, resumed by sequence number. Everything else on the page follows from it.
import { signal } from '@preact/signals'
import { get, request, who, Problem } from './api'
import type { Event, Stats } from './types'

export type Link = 'connecting' | 'live' | 'lost'
export const link = signal<Link>('connecting')
export const seq = signal(0)

// A batch of events in order. null: some were missed, so whatever is shown has to be fetched anew.
type Listener = (events: Event[] | null) => void
const listeners = new Set<Listener>()

export function onEvents(listener: Listener): () => void {
  listeners.add(listener)
  return () => void listeners.delete(listener)
}

const tell = (events: Event[] | null) => listeners.forEach((listener) => listener(events))

const SILENT_MS = 40_000 // a heartbeat comes every 15 s
const FAR_BEHIND = 20_000 // more events than this are not worth reading: fetch anew instead
const RETRY_MS = [300, 500, 1000, 2000, 3000]

// Splits an event stream (text/event-stream) into its events. Chunks may end anywhere.
export class EventParser {
  private rest = ''
  private name = ''
  private data = ''

  push(text: string, each: (name: string, data: string) => void) {
    this.rest += text
    let start = 0
    for (let end = this.rest.indexOf('\n'); end >= 0; end = this.rest.indexOf('\n', start)) {
      const line = this.rest.slice(start, end)
      start = end + 1
      if (line === '') {
        if (this.data) each(this.name, this.data)
        this.name = this.data = ''
      } else if (line.startsWith('event: ')) this.name = line.slice(7)
      else if (line.startsWith('data: ')) this.data += line.slice(6)
    }
    this.rest = this.rest.slice(start)
  }
}

async function read(stop: AbortController) {
  const stats = await get<Stats>('/v1/stats', stop.signal)
  const last = stats.store.last_seq
  const resume = seq.value > 0 && seq.value <= last && last - seq.value <= FAR_BEHIND
  if (!resume) seq.value = last
  const answer = await request('GET', `/v1/events?since=${seq.value}`, undefined, stop.signal)
  if (!resume) tell(null)
  link.value = 'live'
  const reader = answer.body!.getReader()
  const decoder = new TextDecoder()
  const parser = new EventParser()
  let timer = setTimeout(() => stop.abort(), SILENT_MS)
  try {
    for (;;) {
      const { done, value } = await reader.read()
      if (done) return
      clearTimeout(timer)
      timer = setTimeout(() => stop.abort(), SILENT_MS)
      const batch: Event[] = []
      let missed = false, health = false
      parser.push(decoder.decode(value, { stream: true }), (name, data) => {
        const event = JSON.parse(data)
        if (name === 'gap') {
          missed = true
          seq.value = Math.max(seq.value, event.last)
        } else if (name === 'health') {
          health = true // no event: it has no place among them, but whoever shows how the master is asks again
        } else {
          batch.push(event)
        }
      })
      if (batch.length) seq.value = Math.max(seq.value, batch[batch.length - 1].seq)
      if (missed) tell(null)
      else if (batch.length || health) tell(batch)
    }
  } finally {
    clearTimeout(timer)
  }
}

let running = false

export async function follow() {
  if (running) return
  running = true
  let tries = 0
  while (who.value) {
    const stop = new AbortController()
    try {
      await read(stop)
      tries = 0
    } catch (error) {
      if (error instanceof Problem && error.status === 401) break
      if (link.value === 'live') tries = 0
    }
    stop.abort()
    link.value = tries === 0 ? 'connecting' : 'lost'
    await new Promise((resume) => setTimeout(resume, RETRY_MS[Math.min(tries++, RETRY_MS.length - 1)] * (0.75 + Math.random() / 2)))
  }
  running = false
}

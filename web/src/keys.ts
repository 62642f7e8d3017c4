// The keyboard: one table for what works everywhere; a page adds its own while it is shown.
import { useLayoutEffect, useRef, useState } from 'preact/hooks'
import { signal } from '@preact/signals'
import { go } from './router'

export const helpOpen = signal(false)

export const PAGES: [key: string, page: string, label: string][] = [
  ['o', 'overview', 'Overview'],
  ['j', 'jobs', 'Jobs'],
  ['n', 'nodes', 'Nodes'],
  ['q', 'queues', 'Queues'],
  ['r', 'cron', 'Cron'],
  ['t', 'gantt', 'Timeline'],
  ['f', 'failures', 'Failures'],
  ['e', 'events', 'Events'],
]

type Keys = Record<string, () => void>
const layers: Keys[] = []

// Keys of the page or of a part of it, while it is there. The latest comes first. A layout effect, so that they come and go with
// what is on the page: another would leave a few frames in which a key is answered by what is not there any more.
export function useKeys(keys: Keys) {
  useLayoutEffect(() => {
    layers.push(keys)
    return () => void layers.splice(layers.indexOf(keys), 1)
  })
}

// State that a key may change twice before the page is drawn again: `now` is what it is, `shown` what was drawn.
export function useNow<T>(first: T): { shown: T; now: () => T; set: (value: T) => void } {
  const ref = useRef(first)
  const [shown, draw] = useState(first)
  return {
    shown,
    now: () => ref.current,
    set: (value) => {
      ref.current = value
      draw(() => value)
    },
  }
}

const typing = (target: EventTarget | null) =>
  target instanceof HTMLElement && (/^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName) || target.isContentEditable) && (target as HTMLInputElement).type !== 'checkbox'

export function focusSearch() {
  const box = document.querySelector<HTMLInputElement>('#search')
  box?.focus()
  box?.select()
}

let prefix = 0 // when g was pressed

addEventListener('keydown', (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey || e.isComposing) return
  if (typing(e.target)) {
    if (e.key === 'Escape') (e.target as HTMLElement).blur()
    return
  }
  if (document.querySelector('.veil')) return
  const run = (action: () => void) => {
    e.preventDefault()
    action()
  }
  if (prefix && performance.now() - prefix < 1500) {
    prefix = 0
    const page = PAGES.find(([key]) => key === e.key)
    if (page) return run(() => go('#/' + page[1]))
  }
  prefix = 0
  for (let i = layers.length - 1; i >= 0; i--) if (layers[i][e.key]) return run(layers[i][e.key])
  if (e.key === 'g') prefix = performance.now()
  else if (e.key === '/') run(focusSearch)
  else if (e.key === '?') run(() => (helpOpen.value = true))
  else if (e.key === 'c') run(() => go('#/submit'))
})

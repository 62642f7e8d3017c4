// Pieces that all pages are made of.
import type { ComponentChildren } from 'preact'
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks'
import { signal } from '@preact/signals'
import { Virtualizer, elementScroll, observeElementOffset, observeElementRect } from '@tanstack/virtual-core'
import { Problem } from './api'
import { plain } from './text'

export const Text = ({ of, empty = '–' }: { of: string | null | undefined; empty?: string }) => (
  <bdi class={of ? undefined : 'muted'}>{of ? plain(of) : empty}</bdi>
)

export const State = ({ of }: { of: string }) => (
  <span class={`state s-${of}`}>
    <i />
    {of.replace(/_/g, ' ')}
  </span>
)

// Parts of a whole, such as the tasks of an array by state.
export function Parts({ counts, order, total }: { counts: Record<string, number>; order: string[]; total: number }) {
  const title = order.filter((s) => counts[s]).map((s) => `${counts[s]} ${s.replace(/_/g, ' ')}`).join(', ')
  return (
    <span class="parts" title={title} role="img" aria-label={title}>
      {order.map((s) => counts[s] ? <i key={s} class={`s-${s}`} style={{ flexGrow: counts[s] / total }} /> : null)}
    </span>
  )
}

// Allocated (filled) against used (mark), of a capacity.
export function Meter({ allocated, used, capacity, title }: { allocated: number; used?: number; capacity: number; title?: string }) {
  const part = (n: number) => `${capacity > 0 ? Math.min(100, (100 * n) / capacity) : 0}%`
  return (
    <span class="meter" title={title}>
      <i class="fill" style={{ width: part(allocated) }} />
      {used !== undefined && capacity > 0 && <i class={used > allocated * 1.05 + capacity * 0.02 ? 'mark over' : 'mark'} style={{ left: part(used) }} />}
    </span>
  )
}

export const Panel = ({ title, aside, children, class: more = '' }: { title?: ComponentChildren; aside?: ComponentChildren; children: ComponentChildren; class?: string }) => (
  <section class={`panel ${more}`}>
    {(title || aside) && (
      <header>
        <h2>{title}</h2>
        <span class="aside">{aside}</span>
      </header>
    )}
    {children}
  </section>
)

export const Empty = ({ title, children }: { title: string; children?: ComponentChildren }) => (
  <div class="empty">
    <strong>{title}</strong>
    {children && <p>{children}</p>}
  </div>
)

export function Failure({ of, again }: { of: unknown; again?: () => void }) {
  const problem = of instanceof Problem ? of : null
  return (
    <div class="failure" role="alert">
      <strong>{plain(of instanceof Error ? of.message : String(of))}</strong>
      {problem?.remedy && <p>{plain(problem.remedy)}</p>}
      {again && <button onClick={again}>Try again</button>}
    </div>
  )
}

type Asked = (() => void) & { failure: { value: unknown } }

// In the place of what is not there yet.
export const Wait = ({ for: ask }: { for: Asked }) => (ask.failure.value ? <Failure of={ask.failure.value} again={ask} /> : <Loading />)

// Beside what is there already: some of it could not be fetched anew.
export function Stale({ of }: { of: Asked[] }) {
  const failed = of.filter((ask) => ask.failure.value !== null)
  return failed.length ? <Failure of={failed[0].failure.value} again={() => failed.forEach((ask) => ask())} /> : null
}

export const Loading = () => <div class="loading" aria-busy="true">Loading…</div>

// Where the page is not at a secure address there is no clipboard to write to: a selection is copied instead.
function copySelected(text: string): boolean {
  const box = document.createElement('textarea')
  box.value = text
  box.className = 'hidden'
  document.body.append(box)
  box.select()
  const done = document.execCommand('copy')
  box.remove()
  return done
}

export function Copy({ text, label = 'Copy' }: { text: string; label?: string }) {
  const [done, setDone] = useState(false)
  useEffect(() => {
    if (!done) return
    const timer = setTimeout(() => setDone(false), 1500)
    return () => clearTimeout(timer)
  }, [done])
  const copy = () => {
    const failed = () => toast(`This browser does not let the page copy. The text is: ${text}`, true)
    if (navigator.clipboard) void navigator.clipboard.writeText(text).then(() => setDone(true), failed)
    else if (copySelected(text)) setDone(true)
    else failed()
  }
  return (
    <button class="small" onClick={copy}>
      {done ? 'Copied' : label}
    </button>
  )
}

export const Command = ({ line }: { line: string }) => (
  <div class="command">
    <code>{line}</code>
    <Copy text={line} />
  </div>
)

// --- short messages in a corner ---

type Toast = { key: number; text: string; bad: boolean }
export const toasts = signal<Toast[]>([])
let toastLast = 0

export function toast(text: string, bad = false) {
  const key = ++toastLast
  toasts.value = [...toasts.value.slice(-4), { key, text, bad }]
  setTimeout(() => (toasts.value = toasts.value.filter((t) => t.key !== key)), bad ? 12_000 : 5000)
}

export const Toasts = () => (
  <div class="toasts" role="status">
    {toasts.value.map((t) => (
      <div key={t.key} class={t.bad ? 'toast bad' : 'toast'} onClick={() => (toasts.value = toasts.value.filter((o) => o !== t))}>
        {plain(t.text)}
      </div>
    ))}
  </div>
)

// --- a dialog that keeps the focus ---

export function Dialog({ title, close, children }: { title: string; close: () => void; children: ComponentChildren }) {
  const box = useRef<HTMLDivElement>(null)
  useLayoutEffect(() => { // not a frame later: the next key, and the focus that it sets, are not this dialog's any more
    const before = document.activeElement as HTMLElement | null
    const first = box.current?.querySelector<HTMLElement>('[data-first]') ?? box.current?.querySelector<HTMLElement>('input, button')
    first?.focus()
    const key = (e: KeyboardEvent) => {
      if (e.key === 'Escape') {
        e.stopPropagation()
        close()
      }
      if (e.key !== 'Tab' || !box.current) return
      const all = [...box.current.querySelectorAll<HTMLElement>('input, button, select, textarea, a[href]')].filter((x) => !(x as HTMLButtonElement).disabled)
      const edge = e.shiftKey ? all[0] : all[all.length - 1]
      if (document.activeElement !== edge) return
      e.preventDefault()
      ;(e.shiftKey ? all[all.length - 1] : all[0]).focus()
    }
    addEventListener('keydown', key, true)
    return () => {
      removeEventListener('keydown', key, true)
      before?.focus()
    }
  }, [])
  return (
    <div class="veil" onClick={(e) => e.target === e.currentTarget && close()}>
      <div class="dialog" role="dialog" aria-modal="true" aria-label={title} ref={box}>
        <h2>{title}</h2>
        {children}
      </div>
    </div>
  )
}

// --- lists of any length: only what is seen is in the document ---

type ListProps = {
  count: number
  height: number
  row: (index: number) => ComponentChildren
  class?: string
  nearEnd?: () => void
  at?: number // keep this row in view
  stick?: boolean // stay at the end while rows are added
  label?: string
  onScroll?: (atEnd: boolean) => void
  tall?: number // at most this high
}

export function VirtualList({ count, height, row, class: more = '', nearEnd, at, stick, label, onScroll, tall }: ListProps) {
  const scroller = useRef<HTMLDivElement>(null)
  const [, redraw] = useState(0)
  const options = {
    count,
    getScrollElement: () => scroller.current,
    estimateSize: () => height,
    overscan: 12,
    scrollToFn: elementScroll,
    observeElementRect,
    observeElementOffset,
    onChange: () => redraw((n) => n + 1),
  }
  const [list] = useState(() => new Virtualizer<HTMLDivElement, HTMLDivElement>(options))
  list.setOptions(options)
  useLayoutEffect(() => list._didMount(), [])
  useLayoutEffect(() => list._willUpdate())
  const items = list.getVirtualItems()
  const last = items.length ? items[items.length - 1].index : 0
  useEffect(() => {
    if (nearEnd && count - last < 40) nearEnd()
  }, [last, count, nearEnd])
  useEffect(() => {
    if (at !== undefined && at >= 0 && at < count) list.scrollToIndex(at, { align: 'auto' })
  }, [at])
  useLayoutEffect(() => {
    if (stick && scroller.current) scroller.current.scrollTop = scroller.current.scrollHeight
  }, [stick, count])
  const scrolled = (e: { currentTarget: HTMLDivElement }) => {
    const box = e.currentTarget
    onScroll?.(box.scrollTop + box.clientHeight >= box.scrollHeight - 4)
  }
  return (
    <div class={`scroller ${more}`} style={tall ? { maxHeight: `${tall}px` } : undefined} ref={scroller} tabIndex={0} aria-label={label} onScroll={onScroll && scrolled}>
      <div class="track" style={{ height: `${list.getTotalSize()}px` }}>
        {items.map((item) => (
          <div key={item.key} class="slot" style={{ transform: `translateY(${item.start}px)`, height: `${height}px` }}>
            {row(item.index)}
          </div>
        ))}
      </div>
    </div>
  )
}

// Fetches when `key` changes; the last answer stays until the next is there.
export function useFetch<T>(fetch: (stop: AbortSignal) => Promise<T>, key: string) {
  const [state, set] = useState<{ data?: T; error?: unknown; key: string }>({ key })
  const [round, again] = useState(0)
  useEffect(() => {
    const stop = new AbortController()
    fetch(stop.signal).then(
      (data) => !stop.signal.aborted && set({ data, key }),
      (error) => !stop.signal.aborted && set((old) => ({ data: old.key === key ? old.data : undefined, error, key })),
    )
    return () => stop.abort()
  }, [key, round])
  return { data: state.key === key ? state.data : undefined, error: state.error, again: () => again((n) => n + 1) }
}

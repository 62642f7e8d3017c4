// The feed of events as it comes, from a little before the page was opened. It can be held, and filtered.
import { useEffect, useState } from 'preact/hooks'
import { signal } from '@preact/signals'
import { onEvents } from '../live'
import { href, route, setQuery } from '../router'
import { clock, number, plain, stamp } from '../text'
import type { Event } from '../types'
import { Empty, Text, VirtualList } from '../ui'
import { fields } from './job'

const KEPT = 5000
const feed = signal<Event[]>([])
const missed = signal(0)

// It is written down from the beginning, so that the page has something to show when it is opened.
onEvents((events) => {
  if (!events) missed.value++
  else feed.value = [...feed.value.slice(-Math.max(0, KEPT - events.length)), ...events.slice(-KEPT)]
})

const tone = (e: Event) => (e.final === 'failed' || e.state === 'down' || e.state === 'quarantined' || e.event === 'job.uncertain' ? 'bad' : e.event.startsWith('node.') || e.event.startsWith('master.') ? 'warn' : '')

export function Events() {
  const [held, setHeld] = useState<Event[] | null>(null)
  const q = route.value.query
  const kind = q.get('kind') ?? '', text = (q.get('text') ?? '').toLowerCase()
  useEffect(() => {
    if (held && feed.value.length === 0) setHeld(null)
  }, [feed.value.length])
  const list = (held ?? feed.value).filter((e) => e.event.startsWith(kind) && (!text || `${e.event} ${e.job ?? ''} ${fields(e)}`.toLowerCase().includes(text)))
  const shown = list.slice().reverse()
  return (
    <div class="page full">
      <h1 class="hidden">Events</h1>
      <div class="filters"><div class="fields">
        <div class="tabs">{['', 'job.', 'node.', 'master.'].map((k) => <button key={k} class={k === kind ? 'on' : ''} onClick={() => setQuery({ kind: k || null })}>{k ? k.slice(0, -1) : 'all'}</button>)}</div>
        <input placeholder="text, such as final=failed" aria-label="Text" value={q.get('text') ?? ''} onInput={(e) => setQuery({ text: e.currentTarget.value || null })} class={text ? 'set' : ''} />
        <button class="small" aria-pressed={held !== null} onClick={() => setHeld(held ? null : feed.value)}>{held ? 'Go on' : 'Hold'}</button>
        <span class="muted">{number(list.length)} of the last {number(feed.value.length)}{missed.value > 1 ? `; some were left out ${missed.value - 1} times, because too many came` : ''}</span>
      </div></div>
      <div class="table">
        <div class="event-row head"><span class="e-seq">Number</span><span>Time</span><span>Event</span><span class="e-job">Job</span><span>What</span></div>
        {shown.length ? <VirtualList count={shown.length} height={26} class="rows" label="Events" row={(i) => {
          const e = shown[i]
          return (
            <div class="event-row">
              <span class="muted e-seq">{e.seq}</span><span title={stamp(e.at)}>{clock(e.at ?? '')}</span><span class={tone(e)}>{e.event}</span>
              <span class="e-job">{e.job ? <a href={href('jobs', e.job)}>{e.job}</a> : e.node ? <a href={href('nodes', String(e.node))}><Text of={String(e.node)} /></a> : ''}</span>
              <span class="muted" title={plain(fields(e))}>{fields(e)}</span>
            </div>
          )
        }} /> : <Empty title={feed.value.length ? 'No event matches' : 'Nothing happened since the page was opened'}>{feed.value.length ? 'Change the filter above.' : <>New events appear at once. Older ones: <code>rota events --since 0</code></>}</Empty>}
      </div>
    </div>
  )
}

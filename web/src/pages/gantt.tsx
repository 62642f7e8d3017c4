// What ran where and when: a lane for each attempt that ran at the same time on a node, drawn on a canvas. Events move it on.
import { useEffect, useMemo, useRef, useState } from 'preact/hooks'
import { get } from '../api'
import { onEvents } from '../live'
import { go, href, route, setQuery } from '../router'
import { now } from '../state'
import { clock, duration, middle, plain, plural, stamp } from '../text'
import { colour, theme } from '../theme'
import type { Event } from '../types'
import { Empty, Failure, Loading } from '../ui'

type Span = { job: number; task: number | null; attempt: number; node: string | null; started_at: string | null; ended_at: string | null; state: string; reason: string | null }
type Planned = { job: number; array: boolean; node: string | null; start_at: string; end_at: string }
type Bar = { id: string; attempt: number; node: string; from: number; to: number | null; state: string; reason: string | null }

const WINDOWS: [label: string, seconds: number][] = [['5 min', 300], ['15 min', 900], ['1 h', 3600], ['6 h', 21600], ['24 h', 86400]]
const BARS_MAX = 30_000
const LANE = 14, GAP = 6, TOP = 22
const leftOf = (width: number) => (width < 600 ? 72 : 130) // the names of the nodes
const COLOURS: Record<string, string> = { running: 'running', succeeded: 'good', failed: 'bad', cancelled: 'cancelled', retry_wait: 'retry', uncertain: 'warn', cancelling: 'cancelled', dispatched: 'dispatched', expired: 'cancelled', planned: 'queued' }

const keyOf = (b: { id: string; attempt: number }) => `${b.id}.${b.attempt}`
const toBar = (s: Span): Bar => ({
  id: s.task === null ? String(s.job) : `${s.job}_${s.task}`, attempt: s.attempt, node: s.node ?? '?', from: Date.parse(s.started_at ?? ''), to: s.ended_at ? Date.parse(s.ended_at) : null, state: s.state, reason: s.reason,
})

const toPlanned = (p: Planned, i: number): Bar => ({ id: String(p.job), attempt: -i, node: p.node ?? '?', from: Date.parse(p.start_at), to: Date.parse(p.end_at), state: 'planned', reason: null })

// Attempts that overlap get lanes of their own, the same for as long as possible.
function layout(bars: Bar[], from: number) {
  const byNode = new Map<string, Bar[]>()
  for (const b of bars) if ((b.to ?? Infinity) >= from) byNode.get(b.node)?.push(b) ?? byNode.set(b.node, [b])
  const rows: { node: string; y: number; lanes: number }[] = []
  const placed: { bar: Bar; y: number }[] = []
  let y = TOP
  for (const node of [...byNode.keys()].sort((a, b) => a.localeCompare(b, 'en', { numeric: true }))) {
    const ends: number[] = []
    for (const bar of byNode.get(node)!.sort((a, b) => a.from - b.from || a.id.localeCompare(b.id))) {
      // What runs now has no end yet; what is planned comes after it all the same.
      let lane = ends.findIndex((end) => end <= bar.from || (bar.state === 'planned' && end === Infinity))
      if (lane < 0) lane = ends.length
      ends[lane] = bar.to ?? Infinity
      placed.push({ bar, y: y + lane * LANE })
    }
    rows.push({ node, y, lanes: ends.length })
    y += ends.length * LANE + GAP
  }
  return { rows, placed, height: y + 4 }
}

// The end of a part of a job on several nodes tells no state of its task: that is decided when all parts have ended.
const OF_GANG = 16
const partEnd = (reason: unknown) => (!reason || reason === 'none' ? 'succeeded' : reason === 'gang' || reason === 'cancelled' ? 'cancelled' : 'failed')

export function Gantt() {
  const seconds = Number(route.value.query.get('window')) || 900
  const wanted = route.value.query.get('node')?.toLowerCase() ?? ''
  const future = route.value.query.get('plan') !== 'no'
  const bars = useRef(new Map<string, Bar>())
  const expected = useRef<Bar[]>([])
  const ahead = useRef(future)
  ahead.current = future
  const [state, setState] = useState<'loading' | 'ready'>('loading')
  const [cut, setCut] = useState(false)
  const [error, setError] = useState<unknown>(null)
  const [planError, setPlanError] = useState<unknown>(null)
  const [version, bump] = useState(0)
  const [tip, setTip] = useState<{ x: number; y: number; text: string } | null>(null)
  const box = useRef<HTMLDivElement>(null)
  const canvas = useRef<HTMLCanvasElement>(null)

  const load = async () => {
    try {
      const planned = ahead.current ? await get<{ slots: Planned[] }>('/v1/plan?limit=5000') : null
      const answer = await get<{ spans: Span[]; cut: boolean }>(`/v1/gantt?since_s=${seconds}&limit=20000`)
      bars.current = new Map(answer.spans.map(toBar).map((b) => [keyOf(b), b]))
      expected.current = (planned?.slots ?? []).map(toPlanned)
      setCut(answer.cut)
      setState('ready')
      setError(null)
      setPlanError(null)
      bump((n) => n + 1)
    } catch (problem) {
      setError(problem)
    }
  }
  const hear = (e: Event) => {
    if (e.event !== 'job.started' && e.event !== 'job.ended') return
    const at = Date.parse(e.at ?? '')
    const bar: Bar = { id: e.task === undefined ? String(e.job) : `${e.job}_${e.task}`, attempt: Number(e.attempt), node: String(e.node ?? '?'), from: at, to: null, state: 'running', reason: null }
    if (e.event === 'job.ended') Object.assign(bar, { from: at - Number(e.run_ms ?? 0), to: at, state: e.final ?? (Number(e.flags) & OF_GANG ? partEnd(e.reason) : 'retry_wait'), reason: e.reason ?? null })
    bars.current.set(keyOf(bar), bar)
  }
  useEffect(() => {
    load()
    return onEvents((events) => {
      if (!events) return void load()
      events.forEach(hear)
      if (bars.current.size > BARS_MAX) bars.current = new Map([...bars.current].sort((a, b) => b[1].from - a[1].from).slice(0, BARS_MAX / 2))
      bump((n) => n + 1)
    })
  }, [seconds, future])
  // What is planned moves with the plan; no event tells that.
  useEffect(() => {
    if (!future) return
    const timer = setInterval(() => document.hidden || get<{ slots: Planned[] }>('/v1/plan?limit=5000').then((p) => { expected.current = p.slots.map(toPlanned); setPlanError(null); bump((n) => n + 1) }, setPlanError), 5000)
    return () => clearInterval(timer)
  }, [future])

  const today = now.value
  const until = today + (future && expected.current.length ? seconds * 500 : 0) // half as far ahead as back
  const from = today - seconds * 1000
  const plan = useMemo(() => layout([...bars.current.values(), ...(future ? expected.current.filter((b) => b.from < until) : [])].filter((b) => b.node.toLowerCase().includes(wanted)), from), [version, seconds, wanted, future, Math.floor(until / 5000)])

  useEffect(() => {
    const c = canvas.current, outer = box.current
    if (!c || !outer) return
    const width = outer.clientWidth, scale = devicePixelRatio || 1
    const height = Math.max(plan.height, 60)
    c.width = width * scale
    c.height = Math.min(height, 16000) * scale
    c.style.width = `${width}px`
    c.style.height = `${Math.min(height, 16000)}px`
    const pen = c.getContext('2d')!
    pen.scale(scale, scale)
    const left = leftOf(width)
    const x = (t: number) => left + ((t - from) / (until - from)) * (width - left - 10)
    const [line, muted, text] = [colour('line'), colour('muted'), colour('text')]
    pen.font = '11px system-ui, "DejaVu Sans", sans-serif'
    pen.textBaseline = 'middle'
    const step = [10, 30, 60, 300, 900, 3600, 14400].find((s) => ((width - left) * s * 1000) / (until - from) > 70) ?? 14400
    for (let t = Math.ceil(from / 1000 / step) * step; t * 1000 <= until; t += step) {
      const at = x(t * 1000)
      pen.fillStyle = line
      pen.fillRect(Math.round(at), TOP - 4, 1, height)
      pen.fillStyle = muted
      pen.textAlign = 'center'
      if (at < width - 30) pen.fillText(step < 60 ? clock(t * 1000) : clock(t * 1000).slice(0, 5), at, 9)
    }
    pen.textAlign = 'left'
    for (const row of plan.rows) {
      pen.fillStyle = line
      pen.fillRect(0, row.y + row.lanes * LANE + GAP / 2 - 1, width, 1)
      pen.fillStyle = text
      pen.fillText(middle(plain(row.node), width < 600 ? 9 : 19), 12, row.y + LANE / 2 - 1)
    }
    const colours = Object.fromEntries(Object.entries(COLOURS).map(([s, name]) => [s, colour(name)]))
    for (const { bar, y } of plan.placed) {
      const begin = Math.max(left, x(bar.from)), end = x(bar.to ?? today)
      pen.globalAlpha = bar.state === 'planned' ? 0.45 : bar.to === null ? 0.95 : 0.8
      pen.fillStyle = colours[bar.state] ?? muted
      pen.fillRect(begin, y, Math.max(1.5, end - begin - 0.5), LANE - 3)
      if (end - begin > 44) {
        pen.globalAlpha = 1
        pen.fillStyle = colour('panel')
        pen.fillText(bar.id, begin + 5, y + LANE / 2 - 1, end - begin - 8)
      }
    }
    pen.globalAlpha = 1
    if (until > today) {
      pen.fillStyle = text
      pen.fillRect(Math.round(x(today)), TOP - 4, 1, height)
    }
  }, [plan, until, theme.value])

  const at = (e: MouseEvent) => {
    const outer = box.current!
    const width = outer.clientWidth
    const t = from + ((e.offsetX - leftOf(width)) / (width - leftOf(width) - 10)) * (until - from)
    const slack = ((until - from) / (width - leftOf(width))) * 2
    return plan.placed.find(({ bar, y }) => e.offsetY >= y && e.offsetY < y + LANE && t >= bar.from - slack && t <= (bar.to ?? today) + slack)?.bar
  }
  const move = (e: MouseEvent) => {
    const bar = at(e)
    const row = e.offsetX < leftOf(box.current!.clientWidth) && plan.rows.find((r) => e.offsetY >= r.y && e.offsetY < r.y + r.lanes * LANE)
    setTip(row ? { x: e.clientX + 12, y: e.clientY + 12, text: plain(row.node) } : bar ? { x: e.clientX + 12, y: e.clientY + 12, text: `job ${bar.id}${bar.state === 'planned' ? '' : `, attempt ${bar.attempt}`}\n${bar.state.replace(/_/g, ' ')}${bar.reason ? ` (${bar.reason})` : ''}\n${stamp(new Date(bar.from).toISOString())}, ${duration(((bar.to ?? today) - bar.from) / 1000)}\n${plain(bar.node)}` } : null)
  }
  return (
    <div class="page full">
      <div class="title">
        <h1>Timeline</h1>
        <span class="muted">{plural(plan.placed.filter(({ bar }) => bar.state !== 'planned').length, 'attempt')} on {plural(plan.rows.length, 'node')}{cut ? '; older ones are left out' : ''}</span>
        <span class="legend">{['running', 'succeeded', 'failed', 'retry_wait', 'cancelled', ...(future ? ['planned'] : [])].map((s) => <span key={s} class={`state s-${s}`}><i />{s === 'retry_wait' ? 'to be retried' : s} </span>)}</span>
        <div class="acts fields">
          <input placeholder="part of a node's name" aria-label="Node" value={route.value.query.get('node') ?? ''} onInput={(e) => setQuery({ node: e.currentTarget.value || null })} />
          <button class={future ? 'on' : ''} onClick={() => setQuery({ plan: future ? 'no' : null })} title="where and when what waits is to start">Plan</button>
          <div class="tabs">{WINDOWS.map(([label, s]) => <button key={s} class={s === seconds ? 'on' : ''} onClick={() => setQuery({ window: String(s) })}>{label}</button>)}</div>
        </div>
      </div>
      {(error ?? planError) !== null && <Failure of={error ?? planError} again={load} />}
      {state === 'loading' && !error ? <Loading /> : plan.placed.length === 0 && state === 'ready' ? (
        <Empty title="Nothing ran in this time">Choose a longer time above, or <a href="#/submit">submit a job</a>.</Empty>
      ) : (
        <div class="gantt" ref={box}>
          <canvas ref={canvas} role="img" aria-label={`${plan.placed.length} attempts by node and time`} onMouseMove={move} onMouseLeave={() => setTip(null)} onClick={(e) => { const bar = at(e); if (bar) go(href('jobs', bar.id)) }} />
        </div>
      )}
      {tip && <div class="tip" style={{ left: `${Math.min(tip.x, innerWidth - 280)}px`, top: `${tip.y}px` }}>{tip.text}</div>}
    </div>
  )
}

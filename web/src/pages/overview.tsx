// Health at a glance: is it well, is it full, what waits and why.
import type { ComponentChildren } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import { signal } from '@preact/signals'
import { get } from '../api'
import { Chart } from '../chart'
import { go, href } from '../router'
import { askNodes, askStats, nodes, refresher, stats, watchNodes } from '../state'
import { link, onEvents } from '../live'
import { brief, bytes, cpus, duration, number, plain, plural, short } from '../text'
import { colour, theme } from '../theme'
import type { Node, Stats } from '../types'
import { PendingByReason, askPending } from './queues'
import { Empty, Meter, Panel, Stale, State, Wait } from '../ui'

type Minute = { at: string; submitted: number; started: number; succeeded: number; failed: number; wait_p50_s: number | null; wait_p90_s: number | null; wait_p99_s: number | null }

const history = signal<Minute[] | null>(null)
const askHistory = refresher(async () => void (history.value = (await get<{ minutes: Minute[] }>('/v1/history')).minutes), () => 2000)

const Tile = ({ label, value, note, tone = '', to }: { label: string; value: ComponentChildren; note?: ComponentChildren; tone?: string; to?: string }) => {
  const inside = <><span>{label}</span><strong>{value}</strong><em>{note}</em></>
  return to ? <a class={`tile ${tone}`} href={to}>{inside}</a> : <div class={`tile ${tone}`}>{inside}</div>
}

function Health({ s }: { s: Stats }) {
  const bad = ['down', 'suspect', 'quarantined'].reduce((n, state) => n + (s.nodes[state] ?? 0), 0)
  const total = Object.entries(s.nodes).reduce((n, [state, count]) => n + (state === 'removed' ? 0 : count), 0)
  const ready = s.nodes.ready ?? 0
  const gone = link.value === 'lost' // what is shown is what it said last
  const later = (s.tasks.held ?? 0) + (s.tasks.blocked ?? 0) + (s.tasks.retry_wait ?? 0)
  return (
    <div class="tiles">
      <Tile label="Nodes ready" value={<>{number(ready)}<small> / {number(total)}</small></>} tone={bad ? 'bad' : ready ? 'good' : 'warn'} to="#/nodes"
        note={bad ? `${plural(bad, 'node')} in trouble` : ready ? 'all well' : 'nothing can run'} />
      <Tile label="Tasks running" value={short(s.tasks.running ?? 0)} note={s.tasks.uncertain ? `${number(s.tasks.uncertain)} uncertain` : plural(s.tasks.dispatched ?? 0, 'dispatched', 'dispatched')}
        tone={s.tasks.uncertain ? 'warn' : ''} to="#/jobs?state=running" />
      <Tile label="Tasks queued" value={short(s.tasks.queued ?? 0)} note={later ? <span title="held, blocked, or waiting to be tried again">{short(later)} on hold</span> : plural(s.scheduler.shapes, 'shape')} to="#/jobs?state=queued" />
      <Tile label="Tasks failed" value={short(s.tasks.failed ?? 0)} note={`of ${short(s.totals.submitted)} submitted`} tone={s.tasks.failed ? 'warn' : ''} to="#/failures" />
      <Tile label="Commit" value={duration(s.store.commit_s_last)} note={`worst ${duration(s.store.commit_s_max)}`} tone={s.store.errors ? 'bad' : s.store.commit_s_last > 0.25 ? 'warn' : ''} />
      <Tile label="Store" value={bytes(s.store.bytes)} note={s.store.low ? 'disk nearly full' : `${bytes(s.store.free_bytes)} free`} tone={s.store.low ? 'bad' : ''} />
      <Tile label="Bus" value={gone ? 'not known' : s.bus.up ? 'up' : 'down'} note={s.bus.kind} tone={gone ? '' : s.bus.up ? 'good' : 'bad'} />
      <Tile label="Master" value={gone ? 'silent' : s.ready ? 'ready' : 'starting'} note={gone ? 'all of this is as it was' : `${s.version}, epoch ${s.epoch}`} tone={gone ? 'bad' : s.ready ? 'good' : 'warn'} />
    </div>
  )
}

// --- nodes x resources ---

const RESOURCES = [
  { key: 'cpus', label: 'CPU', of: (n: Node) => [n.allocated.cpus, n.used?.cpus, n.capacity.cpus] as const, say: cpus },
  { key: 'mem', label: 'Memory', of: (n: Node) => [n.allocated.mem_bytes, n.used?.mem_bytes, n.capacity.mem_bytes] as const, say: bytes },
  { key: 'gpus', label: 'GPU', of: (n: Node) => [n.allocated.gpus, n.machine?.gpus?.used, n.capacity.gpus] as const, say: cpus },
]
const inTrouble = (n: Node) => ['down', 'suspect', 'quarantined'].includes(n.state)

const describe = (n: Node) =>
  `${plain(n.name)} (${n.state})\n` +
  RESOURCES.map((r) => {
    const [allocated, used, capacity] = r.of(n)
    return capacity ? `${r.label}: ${r.say(allocated)} of ${r.say(capacity)} allocated${used === undefined ? '' : `, ${r.say(used)} used`}` : ''
  }).filter(Boolean).join('\n')

// Few nodes: a row each.
const FewNodes = ({ list }: { list: Node[] }) => (
  <table class="grid heat-rows">
    <thead><tr><th>Node</th><th>State</th><th class="n">Running</th>{RESOURCES.map((r) => <th key={r.key}>{r.label}</th>)}</tr></thead>
    <tbody>
      {list.map((n) => (
        <tr key={n.id} class="click" onClick={() => go(href('nodes', n.name))}>
          <td><a href={href('nodes', n.name)}><bdi>{plain(n.name)}</bdi></a></td>
          <td><State of={n.state} /></td>
          <td class="n">{n.running}</td>
          {RESOURCES.map((r) => {
            const [allocated, used, capacity] = r.of(n)
            return (
              <td key={r.key}>
                {capacity ? <><Meter allocated={allocated} used={used} capacity={capacity} title={describe(n)} /><small class="muted">{r.say(allocated)} / {r.say(capacity)}</small></> : <span class="muted">–</span>}
              </td>
            )
          })}
        </tr>
      ))}
    </tbody>
  </table>
)

// Many nodes: a tile each. The colour is what is allocated; the dark foot is what is used of the node.
function Heat({ list, of }: { list: Node[]; of: (typeof RESOURCES)[number] }) {
  const canvas = useRef<HTMLCanvasElement>(null)
  const have = list.filter((n) => of.of(n)[2] > 0)
  const geometry = (width: number) => {
    const size = Math.max(6, Math.min(18, Math.floor(Math.sqrt((width * 190) / Math.max(1, have.length)))))
    const columns = Math.max(1, Math.floor(width / size))
    return { size, columns, rows: Math.ceil(have.length / columns) }
  }
  useEffect(() => {
    const box = canvas.current
    if (!box) return
    const draw = () => {
      const width = box.parentElement!.clientWidth
      const { size, columns, rows } = geometry(width)
      const scale = devicePixelRatio || 1
      box.width = width * scale
      box.height = rows * size * scale
      box.style.height = `${rows * size}px`
      const pen = box.getContext('2d')!
      pen.scale(scale, scale)
      const [none, full, foot, bad] = [colour('heat-0'), colour('heat-1'), colour('heat-used'), colour('bad')]
      have.forEach((n, i) => {
        const [allocated, used, capacity] = of.of(n)
        const x = (i % columns) * size, y = Math.floor(i / columns) * size, inner = size - (size > 8 ? 2 : 1)
        pen.globalAlpha = 1
        pen.fillStyle = inTrouble(n) ? bad : none
        pen.fillRect(x, y, inner, inner)
        if (inTrouble(n)) return
        pen.globalAlpha = Math.min(1, allocated / capacity)
        pen.fillStyle = full
        pen.fillRect(x, y, inner, inner)
        pen.globalAlpha = 1
        if (used === undefined) return
        const height = Math.min(1, used / capacity) * inner
        pen.fillStyle = foot
        pen.fillRect(x, y + inner - height, Math.max(2, inner / 4), height)
      })
    }
    draw()
    const watch = new ResizeObserver(draw)
    watch.observe(box.parentElement!)
    return () => watch.disconnect()
  }, [list, theme.value])
  const at = (e: MouseEvent) => {
    const box = canvas.current!
    const { size, columns } = geometry(box.clientWidth)
    return have[Math.floor(e.offsetY / size) * columns + Math.floor(e.offsetX / size)]
  }
  if (!have.length) return null
  const sum = (i: 0 | 1 | 2) => have.reduce((n, node) => n + (of.of(node)[i] ?? 0), 0)
  return (
    <figure class="heat">
      <figcaption>{of.label} <span class="muted">{Math.round((100 * sum(0)) / sum(2))} % of {of.say(sum(2))} allocated{have.some((n) => of.of(n)[1] !== undefined) ? `, ${Math.round((100 * sum(1)) / sum(2))} % used` : ', use not measured'}</span></figcaption>
      <canvas ref={canvas} role="img" aria-label={`${of.label} of ${have.length} nodes`}
        onMouseMove={(e) => { const n = at(e); if (canvas.current) canvas.current.title = n ? describe(n) : '' }}
        onClick={(e) => { const n = at(e); if (n) go(href('nodes', n.name)) }} />
    </figure>
  )
}

function HeatMap() {
  const list = nodes.value
  if (!list) return <Wait for={askNodes} />
  const shown = list.filter((n) => n.state !== 'removed')
  if (!shown.length)
    return <Empty title="No node has joined yet">Start a worker on a machine: <code>rota worker --bus …</code>, or a cluster on this one: <code>rota up --workers 2</code>.</Empty>
  if (shown.length <= 16) return <FewNodes list={shown} />
  return <div class="heats">{RESOURCES.map((r) => <Heat key={r.key} list={shown} of={r} />)}</div>
}

const per = (pick: (m: Minute) => number | null) => history.value!.map(pick)
const times = () => history.value!.map((m) => Date.parse(m.at) / 1000)

const Throughput = () => !history.value ? <Wait for={askHistory} /> : (
  <Chart label="Attempts per minute" x={times()} kind="bars" say={short}
    lines={[{ name: 'started', colour: 'running', values: per((m) => m.started) }, { name: 'succeeded', colour: 'good', values: per((m) => m.succeeded) }, { name: 'failed', colour: 'bad', values: per((m) => m.failed) }]} />
)

const Waits = () => !history.value ? <Wait for={askHistory} /> : (
  <Chart label="From submission to start" x={times()} say={brief}
    lines={[{ name: 'p50', colour: 'running', values: per((m) => m.wait_p50_s) }, { name: 'p90', colour: 'held', values: per((m) => m.wait_p90_s) }, { name: 'p99', colour: 'bad', values: per((m) => m.wait_p99_s) }]} />
)

export function Overview() {
  useEffect(watchNodes, [])
  useEffect(() => {
    askPending()
    askHistory()
    return onEvents(() => {
      askPending()
      askHistory()
    })
  }, [])
  const s = stats.value
  return (
    <div class="page overview">
      <h1 class="hidden">Overview</h1>
      {s ? <Health s={s} /> : <Wait for={askStats} />}
      {s && <Stale of={[askStats, askNodes, askPending, askHistory]} />}
      <Panel title="Nodes" aside={<span class="legend"><span><i class="l-alloc" />allocated</span><span><i class="l-used" />used</span></span>} class="wide-panel"><HeatMap /></Panel>
      <div class="columns three">
        <Panel title="Waiting, by reason"><PendingByReason /></Panel>
        <Panel title="Throughput" aside="last hour"><Throughput /></Panel>
        <Panel title="Wait" aside="last hour"><Waits /></Panel>
      </div>
    </div>
  )
}

// Machines: what they offer, what is taken, what runs there; set one aside and take it back.
import { useEffect, useState } from 'preact/hooks'
import { ask } from '../actions'
import { get } from '../api'
import { useKeys, useNow } from '../keys'
import { onEvents } from '../live'
import { go, href, route, setQuery } from '../router'
import { askNodes, nodes, now, refresher, watchNodes } from '../state'
import { bytes, cpus, duration, number, plain, plural, since, stamp } from '../text'
import type { Node } from '../types'
import { Copy, Empty, Failure, Loading, Meter, Panel, Stale, State, Text, VirtualList, Wait } from '../ui'

const NODE_STATES = ['ready', 'suspect', 'down', 'draining', 'drained', 'quarantined', 'joining', 'removed']
const heard = (n: Node) => (n.heard_ago_s === null ? 'never' : `${duration(n.heard_ago_s)} ago`)

const NodeActions = ({ node }: { node: Node }) =>
  ['draining', 'drained', 'quarantined'].includes(node.state)
    ? <button class="small" onClick={(e) => (e.stopPropagation(), ask('resume', [node.name], `node ${node.name}`))}>Resume…</button>
    : <button class="small" onClick={(e) => (e.stopPropagation(), ask('drain', [node.name], `node ${node.name}`))}>Drain…</button>

function NodeRow({ n, here }: { n: Node; here: boolean }) {
  return (
    <div class={`node-row ${here ? 'at' : ''}`} onClick={(e) => !(e.target as HTMLElement).closest('a,button') && go(href('nodes', n.name))}>
      <a href={href('nodes', n.name)}><Text of={n.name} /></a>
      <State of={n.state} />
      <span class="muted c-why" title={n.reason ? plain(n.reason) : ''}>{n.reason ? plain(n.reason) : ''}</span>
      <span class="n">{n.running}{n.waiting ? <small class="muted"> +{n.waiting}</small> : null}</span>
      <span title={`${cpus(n.allocated.cpus)} of ${cpus(n.capacity.cpus)} CPUs allocated, ${n.used ? cpus(n.used.cpus) : 'nobody knows how many'} used`}><Meter allocated={n.allocated.cpus} used={n.used?.cpus} capacity={n.capacity.cpus} /></span>
      <small class="muted c-num">{cpus(n.allocated.cpus)} / {cpus(n.capacity.cpus)}</small>
      <span title={`${bytes(n.allocated.mem_bytes)} of ${bytes(n.capacity.mem_bytes)} allocated, ${n.used ? bytes(n.used.mem_bytes) : 'nobody knows how much'} used`}><Meter allocated={n.allocated.mem_bytes} used={n.used?.mem_bytes} capacity={n.capacity.mem_bytes} /></span>
      <small class="muted c-num">{bytes(n.allocated.mem_bytes)} / {bytes(n.capacity.mem_bytes)}</small>
      <small class="muted c-gpu">{n.capacity.gpus ? `${cpus(n.allocated.gpus)} / ${cpus(n.capacity.gpus)}` : ''}</small>
      <span class="n muted c-load">{n.used?.load.toFixed(1) ?? '–'}</span>
      <span class="c-act"><NodeActions node={n} /></span>
    </div>
  )
}

export function Nodes() {
  useEffect(watchNodes, [])
  const cursor = useNow(-1)
  const at = cursor.shown
  const q = route.value.query
  const list = nodes.value
  const state = q.get('state'), name = q.get('name')?.toLowerCase() ?? ''
  const counts: Record<string, number> = {}
  for (const n of list ?? []) counts[n.state] = (counts[n.state] ?? 0) + 1
  const shown = (list ?? []).filter((n) => (state ? n.state === state : n.state !== 'removed') && n.name.toLowerCase().includes(name))
  useKeys({ j: () => cursor.set(Math.min(shown.length - 1, cursor.now() + 1)), k: () => cursor.set(Math.max(0, cursor.now() - 1)), Enter: () => shown[cursor.now()] && go(href('nodes', shown[cursor.now()].name)), Escape: () => cursor.set(-1) })
  if (!list) return <div class="page"><Wait for={askNodes} /></div>
  return (
    <div class="page full">
      <h1 class="hidden">Nodes</h1>
      <Stale of={[askNodes]} />
      <div class="filters">
        <div class="tabs" role="tablist">
          <button class={state ? '' : 'on'} onClick={() => setQuery({ state: null })}>all <b>{number(list.length - (counts.removed ?? 0))}</b></button>
          {NODE_STATES.filter((s) => counts[s]).map((s) => <button key={s} class={`s-${s} ${state === s ? 'on' : ''}`} onClick={() => setQuery({ state: state === s ? null : s })}><i />{s} <b>{number(counts[s])}</b></button>)}
        </div>
        <div class="fields"><input placeholder="part of a name" aria-label="Name" value={q.get('name') ?? ''} onInput={(e) => setQuery({ name: e.currentTarget.value || null })} class={name ? 'set' : ''} /></div>
      </div>
      <div class="table">
        <div class="node-row head"><span>Node</span><span>State</span><span class="c-why">Reason</span><span class="n">Running</span><span>CPU</span><span class="c-num" /><span>Memory</span><span class="c-num" /><span class="c-gpu">GPU</span><span class="n c-load">Load</span><span class="c-act" /></div>
        {shown.length ? <VirtualList count={shown.length} height={32} class="rows" label="Nodes" at={at} row={(i) => <NodeRow n={shown[i]} here={i === at} />} />
          : list.length ? <Empty title="No node matches"><button class="small" onClick={() => setQuery({ state: null, name: null })}>Show all</button></Empty>
          : <Empty title="No node has joined yet">Start a worker on a machine: <code>rota worker --bus …</code></Empty>}
      </div>
    </div>
  )
}

type Run = { job: number; task: number | null; attempt: number; started_at: string | null; state: string }

export function NodePage({ name }: { name: string }) {
  const [node, setNode] = useState<Node | null>(null)
  const [runs, setRuns] = useState<{ attempts: Run[]; cut: boolean } | null>(null)
  const [error, setError] = useState<unknown>(null)
  const [refresh] = useState(() =>
    refresher(async () => {
      try {
        const path = `/v1/nodes/${encodeURIComponent(name)}`
        const [n, r] = await Promise.all([get<Node>(path), get<{ attempts: Run[]; cut: boolean }>(path + '/attempts?limit=500')])
        setNode(n)
        setRuns(r)
        setError(null)
      } catch (problem) {
        setError(problem)
      }
    }, () => 1000),
  )
  useEffect(() => {
    refresh()
    const timer = setInterval(refresh, 10_000) // what is used comes with heartbeats, which are no events
    const off = onEvents((events) => (!events || events.some((e) => e.node === name || e.event.startsWith('node.'))) && refresh())
    return () => (clearInterval(timer), off())
  }, [])
  if (!node) return <div class="page">{error ? <><Failure of={error} again={refresh} /><p><a href="#/nodes">All nodes</a></p></> : <Loading />}</div>
  const rows: [string, number, number | undefined, number, (n: number) => string][] = [
    ['CPU', node.allocated.cpus, node.used?.cpus, node.capacity.cpus, cpus], ['Memory', node.allocated.mem_bytes, node.used?.mem_bytes, node.capacity.mem_bytes, bytes],
    ['GPU', node.allocated.gpus, node.machine?.gpus?.used, node.capacity.gpus, cpus],
    ...Object.entries(node.capacity.resources).map(([k, v]) => [plain(k), node.allocated.resources[k] ?? 0, undefined, v, number] as [string, number, undefined, number, (n: number) => string]),
  ]
  return (
    <div class="page">
      <div class="title">
        <h1>Node <Text of={node.name} /></h1><State of={node.state} />
        {!node.connected && <span class="warn">not connected</span>}
        <div class="acts"><NodeActions node={node} /><Copy text={`rota nodes ${node.name}`} label="Copy command" /></div>
      </div>
      {error !== null && <Failure of={error} again={refresh} />}
      {node.reason && <div class="notice"><strong>{plain(node.reason)}</strong>{node.state === 'quarantined' && <p>It is tried again by itself after a pause that doubles; Resume tries it now.</p>}</div>}
      <div class="columns">
        <Panel title="Allocated, and used">
          <div class="use">{rows.filter((r) => r[3] > 0).map(([label, allocated, used, capacity, say]) => <><span>{label}</span><Meter allocated={allocated} used={used} capacity={capacity} /><small class="muted">{say(allocated)} of {say(capacity)}{used !== undefined ? `, ${say(used)} used` : ''}</small></>)}</div>
        </Panel>
        <Panel title="Node">
          <dl class="facts"><dt>Heard</dt><dd>{heard(node)}</dd>
            {node.lease_renewed_ago_s !== null && <><dt>Lease</dt><dd>renewed over HTTP {duration(node.lease_renewed_ago_s)} ago: the bus brings nothing from it, what runs there goes on</dd></>}
            <dt>Load</dt><dd>{node.used?.load.toFixed(2) ?? 'not known now'}</dd><dt>Running</dt><dd>{number(node.running)}{node.waiting ? `, ${node.waiting} wait there for a place` : ''}</dd><dt>Version</dt><dd><Text of={node.version} /></dd>
            {node.labels && <><dt>Labels</dt><dd><Text of={node.labels} /></dd></>}
            {node.machine && <><dt>Disk</dt><dd>{bytes(node.machine.disk_free_bytes)} free of {bytes(node.machine.disk_bytes)}</dd></>}
            {node.machine?.gpus && <><dt>GPU memory</dt><dd>{bytes(node.machine.gpus.mem_used_bytes)} of {bytes(node.machine.gpus.mem_bytes)} used</dd></>}
            {node.machine?.pressure_percent && <><dt>Pressure</dt><dd>CPU {node.machine.pressure_percent.cpu.toFixed(1)} %, memory {node.machine.pressure_percent.memory.toFixed(1)} %, disk {node.machine.pressure_percent.io.toFixed(1)} %</dd></>}
            {node.machine && <><dt>It can do</dt><dd>{plain(node.machine.enforces).split('; ').map((e) => <div key={e}>{e}</div>)}</dd></>}
          </dl>
        </Panel>
      </div>
      <Panel title="On it now" aside={runs ? plural(runs.attempts.length, 'attempt') + (runs.cut ? ' and more' : '') : ''}>
        {!runs ? <Loading /> : !runs.attempts.length ? <Empty title="Nothing runs here">{node.state === 'ready' ? 'It is free.' : `It is ${node.state}: nothing new starts on it.`}</Empty> : (
          <div class="flush overflow"><table class="grid"><thead><tr><th>Job</th><th>State</th><th class="n">Attempt</th><th>Started</th><th class="n">For</th></tr></thead>
            <tbody>{runs.attempts.map((r) => { const id = r.task === null ? String(r.job) : `${r.job}_${r.task}`; return <tr key={id + r.attempt} class="click" onClick={() => go(href('jobs', id))}><td><a href={href('jobs', id)}>{id}</a></td><td><State of={r.state} /></td><td class="n">{r.attempt}</td><td>{stamp(r.started_at)}</td><td class="n">{r.started_at ? duration(since(r.started_at, new Date(now.value).toISOString())) : '–'}</td></tr> })}</tbody></table></div>
        )}
      </Panel>
    </div>
  )
}

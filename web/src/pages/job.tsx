// One job, or one task of an array: what it is, what became of it, what it writes, why it waits.
import { useEffect, useState } from 'preact/hooks'
import { ask, type Verb } from '../actions'
import { call, get, selectorPath } from '../api'
import { useKeys } from '../keys'
import { onEvents } from '../live'
import { Chart } from '../chart'
import { LogView } from '../log'
import { go, href } from '../router'
import { now, refresher } from '../state'
import { bytes, clock, cpus, duration, ending, number, plain, plural, quote, since, size, stamp } from '../text'
import type { Attempt, Estimate, Event, Job, JobDetail, Task, TaskPage, Usage, UsagePoint, Why } from '../types'
import { Command, Copy, Dialog, Empty, Failure, Loading, Panel, Parts, State, Text, VirtualList, toast, useFetch } from '../ui'
import { STATES } from './jobs'

const ENDED = new Set(['succeeded', 'failed', 'cancelled', 'expired'])
type Shown = { job: JobDetail; task: Task | null; attempts: Attempt[]; more: boolean; why: Why | null; usage: Usage }

async function load(id: string): Promise<Shown> {
  const [number, index] = id.split('_')
  const job = await get<JobDetail>(`/v1/jobs/${number}`)
  const task = index === undefined ? null : await get<Task>(`/v1/jobs/${id}`)
  const state = task ? task.state : job.state
  const [attempts, why, usage] = await Promise.all([
    get<{ attempts: Attempt[]; next: string | null }>(`/v1/jobs/${id}/attempts?limit=${job.array && !task ? 60 : 200}`),
    ENDED.has(state) || state === 'running' ? null : get<Why>(`/v1/jobs/${id}/why`),
    get<Usage>(`/v1/jobs/${id}/usage`),
  ])
  return { job, task, attempts: attempts.attempts, more: attempts.next !== null, why, usage }
}

function useJob(id: string) {
  const [shown, setShown] = useState<Shown | null>(null)
  const [error, setError] = useState<unknown>(null)
  const [ask] = useState(() =>
    refresher(async () => {
      try {
        setShown(await load(id))
        setError(null)
      } catch (problem) {
        setError(problem)
      }
    }, () => 500),
  )
  useEffect(() => {
    ask()
    const wanted = Number(id.split('_')[0])
    return onEvents((events) => (!events || events.some((e) => e.job === wanted || (e.event.startsWith('node.') && shown?.why))) && ask())
  }, [])
  // What runs is sampled on its node; there is no event for that.
  const state = shown && (shown.task ?? shown.job).state
  const running = state === 'running'
  useEffect(() => {
    if (!running) return
    const timer = setInterval(() => document.hidden || get<Usage>(`/v1/jobs/${id}/usage`).then((usage) => setShown((old) => old && { ...old, usage }), () => {}), 2000)
    return () => clearInterval(timer)
  }, [running])
  // Nor for what keeps it from beginning there, such as an image that is pulled.
  useEffect(() => {
    if (state !== 'dispatched') return
    const timer = setInterval(ask, 1000)
    return () => clearInterval(timer)
  }, [state])
  return { shown, error, ask }
}

// --- what became of it ---

// What let an attempt go (RULE_LIST), followed by the job that it passed.
const RULES: Record<string, string> = {
  turn: 'first that waited', passed: 'passed one without room', in_time: 'ends before a kept place is needed', beside: 'fits beside a kept place',
  planned: 'its planned place', unplanned: 'delays none with a place', ahead: 'sent ahead: short',
}

function Timeline({ shown }: { shown: Shown }) {
  const { job, attempts } = shown
  if (!attempts.length) return <Empty title="Not started yet">It was submitted {stamp(job.submitted_at)}.</Empty>
  const begin = Date.parse(job.submitted_at ?? attempts[0].assigned_at ?? attempts[0].started_at ?? '')
  const open = attempts.some((a) => !a.ended_at)
  const end = Math.max(begin + 1000, open ? now.value : Math.max(...attempts.map((a) => Date.parse(a.ended_at!))))
  const at = (time: string | null) => `${Math.max(0, Math.min(100, (100 * (Date.parse(time ?? '') - begin)) / (end - begin)))}%`
  const width = (from: string | null, to: string | null) => `${Math.max(0.3, (100 * ((to ? Date.parse(to) : now.value) - Date.parse(from ?? ''))) / (end - begin))}%`
  return (
    <div class="timeline">
      {attempts.map((a) => {
        const state = a.ended_at ? (a.final ?? 'retry_wait') : a.started_at ? 'running' : 'dispatched'
        return (
          <div class="lane" key={`${a.task}.${a.attempt}`}>
            <span>{a.task !== null && !shown.task ? <a href={href('jobs', `${job.id}_${a.task}`)}>{job.id}_{a.task}</a> : `attempt ${a.attempt}`}</span>
            <span class="rail" title={`assigned ${stamp(a.assigned_at)}\nstarted ${stamp(a.started_at)}\nended ${stamp(a.ended_at)}`}>
              {a.assigned_at && a.started_at && <i class="wait" style={{ left: at(a.assigned_at), width: width(a.assigned_at, a.started_at) }} />}
              {(a.started_at || a.assigned_at) && <i class={`s-${state}`} style={{ left: at(a.started_at ?? a.assigned_at), width: width(a.started_at ?? a.assigned_at, a.ended_at) }} />}
            </span>
            <span>
              {a.node ? <a href={href('nodes', a.node)}><Text of={a.node} /></a> : '–'} <small class={a.reason ? 'bad' : 'muted'}>{a.ended_at ? `${ending(a)} · ${duration(a.run_s)}` : a.started_at ? duration(since(a.started_at, new Date(now.value).toISOString())) : 'dispatched'}</small>
              {a.rule && <small class="muted rule">{RULES[a.rule] ?? a.rule.replace(/_/g, ' ')}{a.over ? <>: <a href={href('jobs', a.over)}>job {a.over}</a></> : null}</small>}
              {a.may_have_run && <small class="warn" title="Nobody saw how it ended; it may have had effects."> may have run</small>}
            </span>
          </div>
        )
      })}
      <div class="axis"><span>{clock(begin)}</span><span>{clock(end)}</span></div>
      {shown.more && <small class="muted">These are the first; the tasks below have their own pages.</small>}
    </div>
  )
}

const BASIS = { limits: 'by the time limits of those before it', usual: 'by how long jobs like those before it took', assumed: 'but nothing is known of how long one before it takes' }

function EstimateLine({ estimate }: { estimate: Estimate }) {
  if (!estimate.start_at) return <p class="estimate">No estimate of its start: {plain(estimate.because?.text ?? '')}{estimate.because?.reason === 'depth' ? `: ${number(estimate.depth)}` : ''}.</p>
  const first = estimate.history[0]
  const inSeconds = (Date.parse(estimate.start_at) - now.value) / 1000
  return (
    <p class="estimate" title={estimate.history.map((h) => `${stamp(h.made_at)}: ${stamp(h.start_at)}`).join('\n')}>
      Should start {inSeconds > 1 ? <>in <b>{duration(inSeconds)}</b></> : <b>now</b>}{estimate.node && <> on <a href={href('nodes', estimate.node)}><Text of={estimate.node} /></a></>} ({stamp(estimate.start_at)}), {BASIS[estimate.basis ?? 'limits']}
      {estimate.basis_job !== null && <> (<a href={href('jobs', estimate.basis_job)}>job {estimate.basis_job}</a>)</>}
      {estimate.changes > 0 && first && <span class="muted">; at first {stamp(first.start_at)}, changed {plural(estimate.changes, 'time')}</span>}.
    </p>
  )
}

// What would start it at once, as the master found it.
function ChangeLine({ change }: { change: NonNullable<Why['change']> }) {
  const words = [
    change.raise_limits && 'with the limits raised that keep it out', change.release && 'when it is released',
    change.kind === 'priority' && `with priority ${change.priority}`, change.kind === 'time_limit' && `submitted again with a time limit of ${duration(change.time_limit_s ?? 0)}`,
    change.kind === 'nodes' && `submitted again for ${plural(change.nodes ?? 1, 'node')}`,
    change.kind === 'less' && `submitted again with ${[change.cpus && `${cpus(change.cpus)} CPU`, change.mem_bytes && bytes(change.mem_bytes), change.gpus && `${cpus(change.gpus)} GPU`, change.time_limit_s && `a time limit of ${duration(change.time_limit_s)}`].filter(Boolean).join(', ')}`,
  ].filter(Boolean)
  return <p class="estimate">It would start now {words.join(', ')}.</p>
}

// What failed without a word on stdout is read where it has one.
const saidItThere = (attempts: Attempt[]) => {
  const last = attempts[attempts.length - 1]
  return Boolean(last?.ended_at && last.exit_code !== 0 && !last.stdout_bytes && last.stderr_bytes)
}

const RESOURCES: Record<string, string> = { cpus: 'CPUs', mem_bytes: 'memory', gpus: 'GPUs' }

function WhyPanel({ why }: { why: Why }) {
  const say = (name: string, n: number) => (name === 'mem_bytes' ? bytes(n) : name === 'cpus' || name === 'gpus' ? cpus(n / 1000) : number(n))
  return (
    <Panel title="Why it waits" aside={`${number(why.nodes_ready)} of ${plural(why.nodes_total, 'node')} ready`} class="why-panel">
      <div class="why">
        <strong>{plain(why.text)}</strong>
        {why.all.length > 1 && <ul>{why.all.slice(1).map((w) => <li key={w.reason}>{plain(w.text)}</li>)}</ul>}
        <ul>
          {why.nodes_asked > 1 && <li>{number(why.nodes_asked)} nodes at the same time: {number(why.nodes_now)} have room for it now, {number(why.nodes_ever)} would have it when they are empty</li>}
          {why.blocked_by && <li>first in its way: <a href={href('jobs', why.blocked_by)}>job {why.blocked_by}</a></li>}
          {why.jobs_before > 0 && <li>{plural(why.jobs_before, 'job')} of the same shape before it</li>}
          {why.due_in_s !== null && <li>due in {duration(why.due_in_s)}</li>}
        </ul>
        {why.change && <ChangeLine change={why.change} />}
        <EstimateLine estimate={why.estimate} />
      </div>
      {why.dims.length > 0 && (
        <table class="grid">
          <thead><tr><th>Resource</th><th class="n">needs</th><th class="n">most free on a node</th><th class="n">largest node</th><th class="n">nodes that refuse</th></tr></thead>
          <tbody>{why.dims.map((d) => <tr key={d.name}><td>{RESOURCES[d.name] ?? plain(d.name)}</td><td class="n">{say(d.name, d.need)}</td><td class="n">{say(d.name, d.free_most)}</td><td class="n">{say(d.name, d.capacity_most)}</td><td class="n">{number(d.nodes_refused)}</td></tr>)}</tbody>
        </table>
      )}
    </Panel>
  )
}

// What one attempt used over time, with what it asked for as a line. The chart counts from the start where that is not known.
function UsageCurves({ usage }: { usage: Usage }) {
  const { samples, requested } = usage
  if (!samples || samples.points.length < 2) return null
  const points = samples.points
  const from = (samples.started_at ? Date.parse(samples.started_at) : 0) / 1000
  const x = points.map((p) => from + p.at_s)
  const rate = (value: (p: UsagePoint) => number) => points.map((p, i) => {
    const before = i ? points[i - 1] : null
    const s = p.at_s - (before ? before.at_s : 0)
    return s > 0 ? (value(p) - (before ? value(before) : 0)) / s : null
  })
  const asked = (name: string, n: number) => (n > 0 ? [{ name, colour: 'muted', values: points.map(() => n) }] : [])
  return (
    <Panel title="Use over time" aside={`attempt ${samples.attempt}`}>
      <div class="charts">
        <Chart label="CPUs" x={x} say={(n) => cpus(n)} lines={[{ name: 'used', colour: 'running', values: rate((p) => p.cpu_s) }, ...asked('asked for', requested.cpus)]} />
        <Chart label="Memory" x={x} say={(n) => bytes(n)} lines={[{ name: 'used', colour: 'running', values: points.map((p) => p.mem_max_bytes) }, ...asked('asked for', requested.mem_bytes)]} />
        <Chart label="Disk, bytes a second" x={x} say={(n) => bytes(n)} lines={[{ name: 'read', colour: 'running', values: rate((p) => p.read_bytes) }, { name: 'written', colour: 'held', values: rate((p) => p.written_bytes) }]} />
        <Chart label="Processes" x={x} say={(n) => number(Math.round(n))} lines={[{ name: 'processes', colour: 'running', values: points.map((p) => p.processes) }]} />
      </div>
    </Panel>
  )
}

function UsagePanel({ usage, job }: { usage: Usage; job: JobDetail }) {
  const { requested } = usage
  const rows: [string, number, number, string][] = []
  if (usage.run_s > 0) rows.push(['CPU', usage.cpu_s / usage.run_s, requested.cpus, `${cpus(usage.cpu_s / usage.run_s)} of ${cpus(requested.cpus)} on average`])
  rows.push(['Memory', usage.rss_max_bytes, requested.mem_bytes, requested.mem_bytes ? `${bytes(usage.rss_max_bytes)} at most, of ${bytes(requested.mem_bytes)}` : `${bytes(usage.rss_max_bytes)} at most; none was asked for`])
  if (requested.time_limit_s && usage.attempts) rows.push(['Time', usage.run_s / usage.attempts, requested.time_limit_s, `${duration(usage.run_s / usage.attempts)} on average, of ${duration(requested.time_limit_s)}`])
  return (
    <Panel title="Used, against what was asked for" aside={usage.cut ? 'of the first attempts' : plural(usage.attempts, 'attempt')}>
      {usage.attempts === 0 ? <Empty title="Nothing used yet">It is measured from the first second of an attempt on.</Empty> : (
        <div class="use">
          {rows.map(([name, used, asked, text]) => <><span>{name}</span><span class="meter" title={text}><i class="fill" style={{ width: `${asked > 0 ? Math.min(100, (100 * used) / asked) : 0}%` }} /></span><small class={asked > 0 && used > asked ? 'bad' : 'muted'}>{text}</small></>)}
        </div>
      )}
      <SuggestionLine job={job} />
    </Panel>
  )
}

// What earlier runs of this name needed, where it is not what was asked for.
function SuggestionLine({ job }: { job: JobDetail }) {
  const s = job.suggestion
  if (!s) return null
  const options = [s.mem_bytes !== job.mem_bytes && `--mem ${size(s.mem_bytes)}`, s.cpus !== null && s.cpus !== job.cpus && `--cpus ${s.cpus}`].filter(Boolean).join(' ')
  if (!options) return null
  return (
    <p class="suggestion">
      <Command line={options} /> <span class="muted">would do, by {plural(s.runs, 'run')} of this name: at most {bytes(s.mem_max_bytes)}{s.cpus_max !== null && ` and ${cpus(s.cpus_max)} CPU`} were used{s.ooms > 0 && `; ${s.ooms} ran out of memory`}.</span>
    </p>
  )
}

function Facts({ job }: { job: JobDetail }) {
  const command = job.command?.map((w) => quote(plain(w))).join(' ')
  const pairs = (p?: Record<string, string>) => Object.entries(p ?? {}).map(([k, v]) => <div key={k}><code>{plain(k)}={plain(v)}</code></div>)
  const rows: [string, unknown][] = [
    ['Command', command !== undefined && <code>{command}</code>],
    ['User, queue', <><Text of={job.user} />, <Text of={job.queue} /></>],
    ['Asks for', `${cpus(job.cpus)} CPU, ${bytes(job.mem_bytes)}${job.mem_max_bytes ? ` (up to ${bytes(job.mem_max_bytes)})` : ''}${job.gpus ? `, ${cpus(job.gpus)} GPU` : ''}${Object.entries(job.resources).map(([k, v]) => `, ${plain(k)}=${v}`).join('')}`],
    ['Priority', String(job.priority)],
    ['Time limit', job.time_limit_s !== null && duration(job.time_limit_s)],
    ['Retries', job.retries > 0 && String(job.retries)],
    ['Nodes', job.nodes > 1 && `${job.nodes} at the same time, with that on each`],
    ['Array', job.array && job.nodes <= 1 && `${number(job.tasks)} tasks from ${job.first}${job.step && job.step > 1 ? `, step ${job.step}` : ''}${job.limit ? `, at most ${job.limit} at once` : ''}`],
    ['After', job.after.length > 0 && job.after.map((a) => <span key={a.job}><a href={href('jobs', a.job)}>{a.job}</a> ({a.when}) </span>)],
    ['Comes by', job.cron && <><a href="#/cron"><Text of={job.cron} /></a>, due {stamp(job.cron_due)}</>],
    ['Run again from', job.retry_of !== null && <a href={href('jobs', job.retry_of)}>job {job.retry_of}</a>],
    ['Begin, deadline', (job.begin_at || job.deadline_at) && `${stamp(job.begin_at)}, ${stamp(job.deadline_at)}`],
    ['Submitted', stamp(job.submitted_at)], ['Started', stamp(job.started_at)], ['Ended', stamp(job.ended_at)],
    ['Directory', job.workdir && <code>{plain(job.workdir)}</code>], ['Image', job.image && <code>{plain(job.image)}</code>],
    ['Labels', Object.keys(job.labels ?? {}).length > 0 && pairs(job.labels)], ['Environment', Object.keys(job.env ?? {}).length > 0 && pairs(job.env)],
  ]
  return <dl class="facts">{rows.filter(([, v]) => v).map(([k, v]) => <><dt>{k}</dt><dd>{v as preact.ComponentChildren}</dd></>)}</dl>
}

// --- tasks of an array ---

function Tasks({ job, id }: { job: JobDetail; id: string }) {
  const [state, setState] = useState<string | null>(null)
  const [rows, setRows] = useState<Task[]>([])
  const [next, setNext] = useState<string | null>('')
  const [error, setError] = useState<unknown>(null)
  const [round, again] = useState(0)
  const version = Object.entries(job.counts).map((e) => e.join()).join(';')
  const fetchPage = async (cursor: string | null, limit: number) => get<TaskPage>(`/v1/jobs/${id}/tasks?limit=${limit}` + (state ? `&state=${state}` : '') + (cursor ? `&cursor=${cursor}` : ''))
  useEffect(() => {
    let live = true
    fetchPage(null, Math.min(1000, Math.max(200, rows.length))).then((page) => live && (setRows(page.tasks), setNext(page.next), setError(null)), (problem) => live && setError(problem))
    return () => { live = false }
  }, [version, state, round])
  const more = () => {
    if (!next) return
    const cursor = next
    setNext(null)
    fetchPage(cursor, 500).then((page) => { setRows((old) => [...old, ...page.tasks.filter((t) => !old.some((o) => o.index === t.index))]); setNext(page.next); setError(null) }, (problem) => { setNext(cursor); setError(problem) })
  }
  return (
    <Panel title={job.nodes > 1 ? 'Parts, by rank' : 'Tasks'} aside={<div class="tabs"><button class={state ? '' : 'on'} onClick={() => setState(null)}>all <b>{number(job.tasks)}</b></button>{STATES.filter((s) => job.counts[s]).map((s) => <button key={s} class={`s-${s} ${state === s ? 'on' : ''}`} onClick={() => setState(state === s ? null : s)}><i />{s.replace(/_/g, ' ')} <b>{number(job.counts[s])}</b></button>)}</div>}>
      {error !== null && <Failure of={error} again={() => again((n) => n + 1)} />}
      <div class="flush tasks" style={{ height: `${Math.min(360, Math.max(1, rows.length) * 28)}px`, display: 'flex', flexDirection: 'column' }}>
        <VirtualList count={rows.length} height={28} class="rows" label="Tasks" nearEnd={more} row={(i) => {
          const t = rows[i]
          return (
            <div class="event-row task-row" onClick={() => go(href('jobs', t.id))}>
              <a href={href('jobs', t.id)}>{t.id}</a><span class="muted">{t.attempts ? plural(t.attempts, 'attempt') : ''}</span><State of={t.state} /><Text of={t.node} empty="" /><small class={t.state === 'failed' ? 'bad' : 'muted'}>{ending(t)}</small>
            </div>
          )
        }} />
      </div>
    </Panel>
  )
}

function JobEvents({ id, version }: { id: string; version: string }) {
  const { data, error, again } = useFetch((stop) => get<{ events: Event[]; next: string | null }>(`/v1/jobs/${id}/events?limit=200`, stop), version)
  if (!data) return error ? <Failure of={error} again={again} /> : <Loading />
  return (
    <table class="grid"><tbody>
      {data.events.map((e) => <tr key={e.seq}><td class="muted">{e.seq}</td><td>{stamp(e.at)}</td><td>{e.event}</td><td class="muted wrap">{fields(e)}</td></tr>)}
    </tbody></table>
  )
}

export const fields = (e: Event) =>
  Object.entries(e).filter(([k, v]) => !['seq', 'at', 'event', 'job'].includes(k) && v !== null && v !== 0 && v !== '' && v !== false && !(Array.isArray(v) && !v.length))
    .map(([k, v]) => `${k}=${plain(typeof v === 'object' ? JSON.stringify(v) : String(v))}`).join(' ')

function Priority({ job, close }: { job: Job; close: () => void }) {
  const [value, setValue] = useState(String(job.priority))
  const [error, setError] = useState<unknown>(null)
  const save = async (e: globalThis.Event) => {
    e.preventDefault()
    try {
      await call('PATCH', `/v1/jobs/${job.id}`, { priority: Number(value) })
      toast(`Job ${job.id}: priority ${value}`)
      close()
    } catch (problem) {
      setError(problem)
    }
  }
  return (
    <Dialog title={`Priority of job ${job.id}`} close={close}>
      <form onSubmit={save}>
        <label>Priority <input data-first type="number" value={value} onInput={(e) => setValue(e.currentTarget.value)} /></label>
        <label>The same as a command <Command line={`rota update ${job.id} --priority ${Number(value) || 0}`} /></label>
        {error !== null && <Failure of={error} />}
        <div class="buttons"><button type="button" onClick={close}>Back</button><button class="primary">Set</button></div>
      </form>
    </Dialog>
  )
}

// --- the page ---

export function JobPage({ id }: { id: string }) {
  const { shown, error, ask: again } = useJob(id)
  const [priority, setPriority] = useState(false)
  const state = shown ? (shown.task ? shown.task.state : shown.job.state) : ''
  const open = state !== '' && !ENDED.has(state)
  const act = (verb: Verb) => ask(verb, [id], `job ${id}`, again)
  const can: Record<string, boolean> = {
    cancel: open && state !== 'cancelling', hold: open && ['queued', 'blocked', 'retry_wait', 'running', 'dispatched'].includes(state) && !shown?.task,
    release: state === 'held' && !shown?.task, retry: ['failed', 'cancelled', 'expired', 'retry_wait'].includes(state) || Boolean(shown?.job.array && !open),
  }
  useKeys({ a: () => can.cancel && act('cancel'), h: () => can.hold && act('hold'), r: () => can.retry && act('retry') })
  if (!shown) return <div class="page">{error ? <><Failure of={error} again={again} /><p><a href="#/jobs">All jobs</a></p></> : <Loading />}</div>
  const { job, task } = shown
  const attempts = task ? task.attempts : job.attempts
  const version = `${state} ${shown.attempts.length} ${Object.values(job.counts).join()} ${job.priority}`
  return (
    <div class="page job">
      <div class="title">
        <h1>{task ? <><a href={href('jobs', job.id)}>{job.id}</a>_{task.index}</> : job.id} <Text of={job.name} empty="" /></h1>
        <State of={state} />
        {ending(task ?? job) && <span class={state === 'failed' ? 'bad' : 'muted'}>{ending(task ?? job)}</span>}
        {(task ?? job).note && <span class="muted">{plain((task ?? job).note!)}</span>}
        {job.array && !task && <Parts counts={job.counts} order={STATES} total={job.tasks} />}
        <div class="acts">
          {can.cancel && <button onClick={() => act('cancel')} title="a">Cancel…</button>}
          {can.hold && <button onClick={() => act('hold')} title="h">Hold…</button>}
          {can.release && <button onClick={() => act('release')}>Release…</button>}
          {can.retry && <button onClick={() => act('retry')} title="r">Run again…</button>}
          {open && !task && <button onClick={() => setPriority(true)}>Priority…</button>}
          {!task && job.command && <a class="button" href={href('submit') + `?like=${job.id}`}>Submit a copy</a>}
        </div>
      </div>
      {error !== null && <Failure of={error} again={again} />}
      {shown.why && <WhyPanel why={shown.why} />}
      <Panel title="Attempts" aside={`rota show ${id}`}><Timeline shown={shown} /></Panel>
      {job.array && !task ? <Tasks job={job} id={String(job.id)} /> : <LogView id={selectorPath(id)} attempts={attempts} live={state === 'running'} first={saidItThere(shown.attempts) ? 'stderr' : 'stdout'} />}
      <div class="columns">
        <Panel title="Job" aside={<Copy text={`rota show ${id}`} label="Copy command" />}><Facts job={job} /></Panel>
        <UsagePanel usage={shown.usage} job={job} />
      </div>
      <UsageCurves usage={shown.usage} />
      <Panel title="Events"><div class="flush overflow"><JobEvents id={String(job.id)} version={version} /></div></Panel>
      {priority && <Priority job={job} close={() => setPriority(false)} />}
    </div>
  )
}

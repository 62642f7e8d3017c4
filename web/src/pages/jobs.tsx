// The list of jobs: filters are in the address, rows are paged by the server, arrays are one row.
import type { ComponentChildren } from 'preact'
import { useEffect, useMemo } from 'preact/hooks'
import { ask, type Verb } from '../actions'
import { JobList } from '../joblist'
import { useKeys, useNow } from '../keys'
import { go, href, route, setQuery } from '../router'
import { now } from '../state'
import { brief, bytes, cpus, ending, number, plain, plural, short, since, stamp, when } from '../text'
import type { Job } from '../types'
import { Empty, Failure, Parts, Stale, State, Text, VirtualList } from '../ui'

export const STATES = ['running', 'dispatched', 'queued', 'held', 'blocked', 'retry_wait', 'cancelling', 'uncertain', 'failed', 'cancelled', 'expired', 'succeeded']
const OPEN = new Set(STATES.slice(0, 8))
const FIELDS = ['state', 'name', 'user', 'queue', 'label', 'selector', 'order'] as const

function time(job: Job): ComponentChildren {
  if (job.started_at) return brief(since(job.started_at, job.ended_at ?? new Date(now.value).toISOString()))
  return job.ended_at ? '–' : <><span class="wide muted">waits </span>{brief(since(job.submitted_at, new Date(now.value).toISOString()))}</>
}

export function JobRow({ job, chosen, choose, here }: { job: Job; chosen?: boolean; choose?: (on: boolean, range: boolean) => void; here?: boolean }) {
  return (
    <div class={`job-row ${chosen ? 'chosen' : ''} ${here ? 'at' : ''}`} onClick={(e) => !(e.target as HTMLElement).closest('a,input') && go(href('jobs', job.id))}>
      {choose && <span class="c-check"><input type="checkbox" checked={chosen} aria-label={`Choose job ${job.id}`} onClick={(e) => choose(e.currentTarget.checked, e.shiftKey)} /></span>}
      <a class="c-id" href={href('jobs', job.id)}>{job.id}</a>
      <span class="c-name"><Text of={job.name} empty="(no name)" />{job.nodes > 1 ? <small class="muted"> on {number(job.nodes)} nodes</small> : job.array && <small class="muted"> [{number(job.tasks)}]</small>}</span>
      <span class="c-state">{job.array && OPEN.has(job.state) ? <Parts counts={job.counts} order={STATES} total={job.tasks} /> : <State of={job.state} />}</span>
      <span class="c-end">{job.array ? (job.counts.failed ? <small class="bad">{short(job.counts.failed)} failed</small> : null) : <small class={job.state === 'failed' ? 'bad' : 'muted'}>{OPEN.has(job.state) ? '' : ending(job)}</small>}</span>
      <span class="c-user"><Text of={job.user} /></span>
      <span class="c-queue"><Text of={job.queue} /></span>
      <span class="c-need n" title={`${cpus(job.cpus)} CPUs, ${bytes(job.mem_bytes)}${job.gpus ? `, ${cpus(job.gpus)} GPUs` : ''}`}>{cpus(job.cpus)}{job.mem_bytes ? ` · ${bytes(job.mem_bytes)}` : ''}{job.gpus ? ` · ${cpus(job.gpus)}G` : ''}</span>
      <span class="c-prio n">{job.priority || ''}</span>
      <span class="c-node"><Text of={job.node} empty="" /></span>
      <span class="c-time n" title={`submitted ${stamp(job.submitted_at)}\nstarted ${stamp(job.started_at)}\nended ${stamp(job.ended_at)}`}>{time(job)}</span>
      <span class="c-when n muted">{when(job.submitted_at)}</span>
    </div>
  )
}

const Head = ({ all, chooseAll }: { all: boolean; chooseAll: (on: boolean) => void }) => (
  <div class="job-row head">
    <span class="c-check"><input type="checkbox" checked={all} aria-label="Choose all that are shown" onClick={(e) => chooseAll(e.currentTarget.checked)} /></span>
    <span class="c-id">Id</span><span class="c-name">Name</span><span class="c-state">State</span><span class="c-end">End</span><span class="c-user">User</span><span class="c-queue">Queue</span>
    <span class="c-need n">CPU · memory</span><span class="c-prio n">Prio</span><span class="c-node">Node</span><span class="c-time n">Time</span><span class="c-when n">Submitted</span>
  </div>
)

function Filters({ counts, total }: { counts: Record<string, number>; total: number }) {
  const q = route.value.query
  const state = q.get('state')
  const field = (name: string, hint: string) => (
    <input key={name + (q.get(name) ?? '')} class={q.get(name) ? 'set' : ''} defaultValue={q.get(name) ?? ''} placeholder={hint} aria-label={hint} onChange={(e) => setQuery({ [name]: e.currentTarget.value.trim() || null })} />
  )
  return (
    <div class="filters">
      <div class="tabs" role="tablist" aria-label="State">
        <button role="tab" aria-selected={!state} class={state ? '' : 'on'} onClick={() => setQuery({ state: null })}>all <b>{short(total)}</b></button>
        {STATES.map((s) => (counts[s] || state === s) && (
          <button key={s} role="tab" aria-selected={state === s} class={`s-${s} ${state === s ? 'on' : ''}`} onClick={() => setQuery({ state: state === s ? null : s })}><i />{s.replace(/_/g, ' ')} <b>{short(counts[s] ?? 0)}</b></button>
        ))}
      </div>
      <div class="fields">
        {field('name', 'name or glob')}{field('user', 'user')}{field('queue', 'queue')}{field('label', 'label=value')}
        <button class="small" onClick={() => setQuery({ order: q.get('order') === 'asc' ? null : 'asc' })}>{q.get('order') === 'asc' ? 'oldest first' : 'newest first'}</button>
        {FIELDS.some((f) => q.get(f)) && <button class="small" onClick={() => setQuery(Object.fromEntries(FIELDS.map((f) => [f, null])))}>Clear filters</button>}
      </div>
    </div>
  )
}

export function Jobs() {
  const q = route.value.query
  const key = FIELDS.map((f) => q.get(f) ?? '').join('\u0000')
  const list = useMemo(() => new JobList(Object.fromEntries(FIELDS.map((f) => [f, q.get(f)]))), [key])
  useEffect(() => () => list.close(), [list])
  const picked = useNow<Set<number>>(new Set())
  const cursor = useNow(-1)
  const anchor = useNow(-1)
  useEffect(() => {
    picked.set(new Set())
    cursor.set(-1)
  }, [list])
  const chosen = picked.shown, at = cursor.shown
  const rows = list.rows.value

  const choose = (index: number, on: boolean, range: boolean) => {
    const next = new Set(picked.now())
    const other = anchor.now()
    const [from, to] = range && other >= 0 ? [Math.min(other, index), Math.max(other, index)] : [index, index]
    for (let i = from; i <= to; i++) on ? next.add(rows[i].id) : next.delete(rows[i].id)
    picked.set(next)
    anchor.set(index)
  }
  const act = (verb: Verb) => {
    const here = rows[cursor.now()]
    const ids = picked.now().size ? [...picked.now()] : here ? [here.id] : []
    if (ids.length) ask(verb, ids.map(String), ids.length === 1 ? `job ${ids[0]}` : plural(ids.length, 'job'), () => picked.set(new Set()))
  }
  useKeys({
    j: () => cursor.set(Math.min(rows.length - 1, cursor.now() + 1)), k: () => cursor.set(Math.max(0, cursor.now() - 1)),
    Enter: () => rows[cursor.now()] && go(href('jobs', rows[cursor.now()].id)),
    x: () => rows[cursor.now()] && choose(cursor.now(), !picked.now().has(rows[cursor.now()].id), false),
    a: () => act('cancel'), h: () => act('hold'), r: () => act('retry'),
    Escape: () => (picked.set(new Set()), cursor.set(-1)),
  })
  const filtered = FIELDS.some((f) => f !== 'order' && q.get(f))
  return (
    <div class="page full jobs">
      <h1 class="hidden">Jobs</h1>
      <Filters counts={list.counts.value} total={list.total.value} />
      {chosen.size > 0 && (
        <div class="bulk" role="toolbar" aria-label="Chosen jobs">
          <strong>{plural(chosen.size, 'job')} chosen</strong>
          <button onClick={() => act('cancel')}>Cancel…</button><button onClick={() => act('hold')}>Hold…</button>
          <button onClick={() => act('release')}>Release…</button><button onClick={() => act('retry')}>Run again…</button>
          <button class="small" onClick={() => picked.set(new Set())}>Choose none</button>
        </div>
      )}
      {list.error.value !== null && <Failure of={list.error.value} again={list.more} />}
      <Stale of={[list.ask]} />
      <div class="table">
        <Head all={rows.length > 0 && chosen.size === rows.length} chooseAll={(on) => picked.set(on ? new Set(rows.map((j) => j.id)) : new Set())} />
        {rows.length === 0 && list.state.value === 'end' ? (
          filtered
            ? <Empty title="No job matches">Jobs that are asked for by state leave the list when they are fetched anew. <button class="small" onClick={() => setQuery(Object.fromEntries(FIELDS.map((f) => [f, null])))}>Clear filters</button></Empty>
            : <Empty title="No jobs yet">Submit one: <a href="#/submit">here</a>, or <code>rota submit -- echo hello</code>.</Empty>
        ) : (
          <VirtualList count={rows.length} height={30} at={at} nearEnd={list.more} label="Jobs" class="rows"
            row={(i) => <JobRow job={rows[i]} chosen={chosen.has(rows[i].id)} here={i === at} choose={(on, range) => choose(i, on, range)} />} />
        )}
      </div>
      <footer class="muted foot">{plural(rows.length, 'row')} {list.state.value === 'end' ? '' : 'so far; more come while you scroll'}{q.get('selector') ? <> · only {plain(q.get('selector')!)}</> : null}</footer>
    </div>
  )
}

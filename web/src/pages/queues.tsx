// Queues: how much is in each, in which state, what it waits for, and for how long.
import { useEffect } from 'preact/hooks'
import { signal } from '@preact/signals'
import { get } from '../api'
import { onEvents } from '../live'
import { refresher } from '../state'
import { bytes, duration, plain, plural, short } from '../text'
import type { Queue, QueueSettings, Share } from '../types'
import { Empty, Panel, Parts, Stale, Text, Wait } from '../ui'
import { STATES } from './jobs'

export type Pending = { reasons: { reason: string; text: string; tasks: number }[]; queues: { name: string; waiting: Record<string, number>; oldest_wait_s: number }[] }
export const pending = signal<Pending | null>(null)
export const askPending = refresher(async () => void (pending.value = await get<Pending>('/v1/pending')), () => 1200)

const queues = signal<Queue[] | null>(null)
// The summary walks over all jobs: with a million of them, not every second.
let took = 0
const askQueues = refresher(async () => {
  const begun = performance.now()
  queues.value = (await get<{ queues: Queue[] }>('/v1/queues')).queues
  took = performance.now() - begun
}, () => Math.max(1500, 20 * took))

const shares = signal<Share[] | null>(null)
const askShares = refresher(async () => void (shares.value = (await get<{ users: Share[] }>('/v1/shares')).users), () => 2000)

const percent = (x: number) => `${(100 * x).toFixed(1)} %`
const rules = (s: QueueSettings) => [
  ...Object.entries(s.limits).filter(([, most]) => most !== null).map(([what, most]) => `${what.replace(/_/g, ' ')} ≤ ${what === 'mem_bytes' ? bytes(most as number) : most}`),
  ...(s.order ? [`order ${s.order}`] : []), ...(s.weight ? [`weight ${s.weight}`] : []), ...(s.priority ? [`priority ${s.priority}`] : []),
].join(', ')

const OPEN = ['running', 'dispatched', 'queued', 'held', 'blocked', 'retry_wait', 'cancelling', 'uncertain']
const sum = (counts: Record<string, number>, states: string[]) => states.reduce((n, s) => n + (counts[s] ?? 0), 0)

export function Queues() {
  useEffect(() => {
    const all = () => (askQueues(), askPending(), askShares())
    all()
    return onEvents(all)
  }, [])
  const list = queues.value
  const waits = new Map((pending.value?.queues ?? []).map((q) => [q.name, q]))
  if (!list) return <div class="page"><Wait for={askQueues} /></div>
  return (
    <div class="page">
      <h1 class="hidden">Queues</h1>
      <Stale of={[askQueues, askPending]} />
      <Panel title="Queues" aside={plural(list.length, 'queue')}>
        {!list.length ? <Empty title="No queue has jobs yet">A queue is there as soon as a job names it: <code>rota submit --queue night -- …</code></Empty> : (
          <div class="flush overflow">
            <table class="grid queues">
              <thead><tr><th>Queue</th><th>Tasks</th><th class="n">Running</th><th class="n">Queued</th><th class="n">Failed</th><th class="n">Succeeded</th><th>Waits for</th><th class="n">Longest wait</th><th>Rules</th></tr></thead>
              <tbody>
                {list.map((q) => {
                  const w = waits.get(q.name)
                  const later = sum(q.tasks, ['held', 'blocked', 'retry_wait'])
                  const link = (state: string) => `#/jobs?queue=${encodeURIComponent(q.name)}${state ? '&state=' + state : ''}`
                  return (
                    <tr key={q.name}>
                      <td><a href={link('')}><Text of={q.name} /></a></td>
                      <td><Parts counts={q.tasks} order={STATES} total={sum(q.tasks, STATES)} /></td>
                      <td class="n"><a href={link('running')}>{short(sum(q.tasks, ['running', 'dispatched']))}</a></td>
                      <td class="n"><a href={link('queued')}>{short(q.tasks.queued ?? 0)}</a>{later > 0 && <small class="muted" title="held, blocked, or waiting to be tried again"> +{short(later)}</small>}</td>
                      <td class="n"><a href={link('failed')} class={q.tasks.failed ? 'bad' : 'muted'}>{short(q.tasks.failed ?? 0)}</a></td>
                      <td class="n muted">{short(q.tasks.succeeded ?? 0)}</td>
                      <td class="muted">{w ? Object.entries(w.waiting).sort((a, b) => b[1] - a[1]).map(([reason, n]) => `${reason.replace(/_/g, ' ')} ${short(n)}`).join(', ') : ''}</td>
                      <td class="n">{w && w.oldest_wait_s > 0 ? duration(w.oldest_wait_s) : '–'}</td>
                      <td class="muted">{q.settings.paused && <b class="bad">paused{q.settings.reason ? <>: <Text of={q.settings.reason} /></> : null} </b>}{rules(q.settings)}</td>
                    </tr>
                  )
                })}
              </tbody>
            </table>
          </div>
        )}
      </Panel>
      <Panel title="Waiting, by reason"><PendingByReason /></Panel>
      <Panel title="Shares" aside="used beside target, within each account">
        {shares.value && <Stale of={[askShares]} />}
        {!shares.value ? <Wait for={askShares} />
          : !shares.value.length ? <Empty title="Nobody has a share yet">Who submits jobs is listed here, with what was used beside what is due.</Empty> : (
          <div class="flush overflow">
            <table class="grid">
              <thead><tr><th>Account</th><th>User</th><th class="n">Weight</th><th class="n">Target</th><th class="n">Used</th><th class="n">Holds now</th><th class="n">Waiting</th></tr></thead>
              <tbody>
                {shares.value.map((s) => (
                  <tr key={`${s.account} ${s.user}`}>
                    <td><Text of={s.account} /></td><td><Text of={s.user ?? ''} /></td><td class="n">{s.weight}</td>
                    <td class="n">{percent(s.target_share)}</td><td class="n">{percent(s.used_share)}</td><td class="n">{percent(s.held_now)}</td><td class="n">{short(s.waiting)}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
      </Panel>
    </div>
  )
}

export function PendingByReason() {
  const p = pending.value
  if (!p) return <Wait for={askPending} />
  if (!p.reasons.length) return <Empty title="Nothing waits">What is submitted starts at once.</Empty>
  const most = Math.max(...p.reasons.map((r) => r.tasks))
  const oldest = Math.max(0, ...p.queues.map((q) => q.oldest_wait_s))
  return (
    <>
      <ul class="bars">
        {p.reasons.map((r) => (
          <li key={r.reason}>
            <span class="name">{r.reason.replace(/_/g, ' ')}</span>
            <span class="bar"><i style={{ width: `${(100 * r.tasks) / most}%` }} /></span>
            <b>{short(r.tasks)}</b>
            <small class="muted">{plain(r.text)}</small>
          </li>
        ))}
      </ul>
      {oldest > 0 && <p class="muted">The longest wait is {duration(oldest)}.</p>}
    </>
  )
}

export const openTasks = (counts: Record<string, number>) => sum(counts, OPEN)

// Jobs that come again: when each is due next, what became of the last one, what was passed over and why.
import { useEffect, useState } from 'preact/hooks'
import { signal } from '@preact/signals'
import { call, get } from '../api'
import { onEvents } from '../live'
import { href } from '../router'
import { now, refresher } from '../state'
import { duration, number, plain, plural, quote, stamp } from '../text'
import type { CronEntry } from '../types'
import { Command, Dialog, Empty, Failure, Panel, Stale, Text, Wait, toast } from '../ui'

const entries = signal<CronEntry[] | null>(null)
const askEntries = refresher(async () => void (entries.value = (await get<{ entries: CronEntry[] }>('/v1/cron')).entries), () => 1000)

type Change = { verb: 'pause' | 'resume' | 'rm'; entry: CronEntry }
const CHANGES = {
  pause: { title: 'Pause', tells: 'Nothing is submitted until it goes on; what is due meanwhile is not made up for.' },
  resume: { title: 'Resume', tells: 'It goes on with the next time of its schedule.' },
  rm: { title: 'Remove', tells: 'It does not come again. Jobs that it submitted stay.' },
}

function Confirm({ change: { verb, entry }, close }: { change: Change; close: () => void }) {
  const [error, setError] = useState<unknown>(null)
  const confirm = async (e: Event) => {
    e.preventDefault()
    const path = `/v1/cron/${encodeURIComponent(entry.name)}`
    try {
      await (verb === 'rm' ? call('DELETE', path) : call('PUT', path, { paused: verb === 'pause' }))
      toast(`${CHANGES[verb].title}: ${entry.name}`)
      close()
      askEntries()
    } catch (problem) {
      setError(problem)
    }
  }
  return (
    <Dialog title={`${CHANGES[verb].title}: ${plain(entry.name)}`} close={close}>
      <form onSubmit={confirm}>
        <p class="muted">{CHANGES[verb].tells}</p>
        <label>The same as a command <Command line={`rota cron ${verb} ${quote(entry.name)}`} /></label>
        {error !== null && <Failure of={error} />}
        <div class="buttons"><button type="button" onClick={close}>Back</button><button data-first class={verb === 'rm' ? 'danger' : 'primary'}>{CHANGES[verb].title}</button></div>
      </form>
    </Dialog>
  )
}

function Next({ of: e }: { of: CronEntry }) {
  if (e.paused) return <span class="warn">paused</span>
  if (e.problem) return <span class="bad" title={plain(e.problem)}>never: {plain(e.problem)}</span>
  const left = (Date.parse(e.next[0]) - now.value) / 1000
  return <span class="next" title={e.next.map(stamp).join('\n')}><span>{stamp(e.next[0]).slice(0, -3)}</span> <small class="muted">{left > 1 ? `in ${duration(left)}` : 'now'}</small></span>
}

export function Cron() {
  const [change, setChange] = useState<Change | null>(null)
  useEffect(() => {
    askEntries()
    return onEvents(askEntries)
  }, [])
  const list = entries.value
  if (!list) return <div class="page"><Wait for={askEntries} /></div>
  return (
    <div class="page">
      <h1 class="hidden">Jobs that come again</h1>
      <Stale of={[askEntries]} />
      <Panel title="Jobs that come again" aside={plural(list.length, 'entry', 'entries')}>
        {!list.length ? <Empty title="No job comes again"><code>rota cron add nightly --at '30 2 * * mon-fri' -- ./backup.sh</code> makes an entry: the master submits its job at each of these times.</Empty> : (
          <div class="flush overflow">
            <table class="grid cron">
              <thead><tr><th>Name</th><th>Schedule</th><th>Next</th><th class="opt">Last job</th><th class="n opt">Submitted</th><th class="n opt">Passed</th><th class="opt">Passed last</th><th class="opt">User</th><th class="opt">Command</th><th /></tr></thead>
              <tbody>
                {list.map((e) => (
                  <tr key={e.name}>
                    <td><Text of={e.name} /></td>
                    <td><code>{plain(e.schedule)}</code> <small class="muted">{plain(e.zone)}</small></td>
                    <td><Next of={e} /></td>
                    <td class="opt">{e.last_job === null ? <span class="muted">–</span> : <><a href={href('jobs', e.last_job)}>{e.last_job}</a>{e.last_job_open && <small class="muted"> open</small>}</>}</td>
                    <td class="n opt">{number(e.submitted)}</td>
                    <td class="n opt">{number(e.passed)}</td>
                    <td class="wrap opt">{e.last_passed ? <span class={e.last_passed.reason === 'refused' ? 'bad' : 'muted'} title={stamp(e.last_passed.due)}>{e.last_passed.reason}{e.last_passed.text ? `: ${plain(e.last_passed.text)}` : ''}</span> : ''}</td>
                    <td class="opt"><Text of={e.user} /></td>
                    <td class="wrap opt"><code>{(e.job.command ?? []).map((w) => quote(plain(w))).join(' ')}</code></td>
                    <td class="acts-cell"><button class="small" onClick={() => setChange({ verb: e.paused ? 'resume' : 'pause', entry: e })}>{e.paused ? 'Resume…' : 'Pause…'}</button> <button class="small" onClick={() => setChange({ verb: 'rm', entry: e })}>Remove…</button></td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
      </Panel>
      {change && <Confirm change={change} close={() => setChange(null)} />}
    </div>
  )
}

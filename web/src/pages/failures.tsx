// What failed, put together by what makes it alike: one look, one retry for all of a kind.
import { useEffect, useMemo, useState } from 'preact/hooks'
import { ask } from '../actions'
import { get, query } from '../api'
import { useKeys, useNow } from '../keys'
import { onEvents } from '../live'
import { go, href } from '../router'
import { refresher } from '../state'
import { ending, number, plain, plural, when } from '../text'
import { Empty, Failure as Problem, Loading, Text } from '../ui'

type Failure = {
  id: string; job: number; name: string | null; user: string; attempts: number; node: string | null
  reason: string | null; exit_code: number | null; signal: number | null; ended_at: string | null; message: string; signature: string
}
type Group = { key: string; how: string; signature: string; members: Failure[] }

const MOST = 5000 // failures looked at
const PAGES_AT_ONCE = 40

function group(failures: Failure[], byNode: boolean): Group[] {
  const groups = new Map<string, Group>()
  for (const f of failures) {
    const how = ending(f) || 'failed'
    const key = byNode ? `${f.node ?? '–'}` : `${how}\u0000${f.signature}`
    const found = groups.get(key)
    if (found) found.members.push(f)
    else groups.set(key, { key, how: byNode ? '' : how, signature: byNode ? (f.node ?? 'on no node') : f.signature, members: [f] })
  }
  return [...groups.values()].sort((a, b) => b.members.length - a.members.length)
}

const distinct = (values: (string | null)[]) => [...new Set(values.filter((v): v is string => v !== null))]

export function Failures() {
  const [failures, setFailures] = useState<Failure[] | null>(null)
  const [more, setMore] = useState(false)
  const [error, setError] = useState<unknown>(null)
  const [byNode, setByNode] = useState(false)
  const cursor = useNow(-1)
  const at = cursor.shown
  const [load] = useState(() =>
    refresher(async () => {
      try {
        const all: Failure[] = []
        let cursor: string | null = null
        for (let pages = 0; pages < PAGES_AT_ONCE && all.length < MOST; pages++) {
          const page: { failures: Failure[]; next: string | null } = await get('/v1/failures' + query({ limit: 500, cursor }))
          all.push(...page.failures)
          cursor = page.next
          if (!cursor) break
        }
        setFailures(all)
        setMore(cursor !== null)
        setError(null)
      } catch (problem) {
        setError(problem)
      }
    }, () => 3000),
  )
  useEffect(() => {
    load()
    return onEvents((events) => (!events || events.some((e) => e.final === 'failed' || e.event === 'job.dependency_failed')) && load())
  }, [])
  const groups = useMemo(() => group(failures ?? [], byNode), [failures, byNode])
  const retry = (g: Group) => ask('retry', g.members.map((f) => f.id), `${plural(g.members.length, 'failure')} of one kind`, load)
  useKeys({ j: () => cursor.set(Math.min(groups.length - 1, cursor.now() + 1)), k: () => cursor.set(Math.max(0, cursor.now() - 1)), r: () => groups[cursor.now()] && retry(groups[cursor.now()]), Enter: () => groups[cursor.now()] && go(href('jobs', groups[cursor.now()].members[0].id)) })
  return (
    <div class="page">
      <div class="title">
        <h1>Failures</h1>
        {failures && <span class="muted">{plural(failures.length, 'failure')}{more ? ' (the newest)' : ''} of {plural(groups.length, byNode ? 'node' : 'kind')}</span>}
        <div class="acts tabs"><button class={byNode ? '' : 'on'} onClick={() => setByNode(false)}>by what it said</button><button class={byNode ? 'on' : ''} onClick={() => setByNode(true)}>by node</button></div>
      </div>
      {error !== null && <Problem of={error} again={load} />}
      {!failures ? !error && <Loading /> : !groups.length ? <Empty title="Nothing failed">{more ? 'Among the newest jobs, that is.' : 'When something does, it appears here by itself.'}</Empty> : groups.slice(0, 200).map((g, i) => {
        const nodes = distinct(g.members.map((f) => f.node)), names = distinct(g.members.map((f) => f.name)), users = distinct(g.members.map((f) => f.user))
        return (
          <article class={`group ${i === at ? 'at' : ''}`} key={g.key}>
            <b>{number(g.members.length)}</b>
            <div>
              <h3>{g.how && <span class="bad">{g.how} </span>}{g.signature ? plain(g.signature) : <span class="muted">it said nothing</span>}</h3>
              {!byNode && g.members[0].message && plain(g.members[0].message) !== plain(g.signature) && <pre>{plain(g.members[0].message)}</pre>}
              <p class="muted">
                {names.length > 0 && <>{names.slice(0, 3).map((n) => <Text key={n} of={n} />).reduce<preact.ComponentChildren[]>((all, n, k) => (k ? [...all, ', ', n] : [n]), [])}{names.length > 3 ? ` and ${names.length - 3} other names` : ''} · </>}
                {nodes.length === 1 && g.members.length > 1 ? <>all on <a href={href('nodes', nodes[0])}><Text of={nodes[0]} /></a></> : plural(nodes.length, 'node')} · {users.length === 1 ? <Text of={users[0]} /> : plural(users.length, 'user')} · last {when(g.members[0].ended_at)}
              </p>
              <div class="ids">{g.members.slice(0, 12).map((f) => <a key={f.id} href={href('jobs', f.id)}>{f.id}</a>)}{g.members.length > 12 && <span class="muted">and {number(g.members.length - 12)} more</span>}</div>
            </div>
            <button onClick={() => retry(g)}>Run again…</button>
          </article>
        )
      })}
    </div>
  )
}

import { useState } from 'preact/hooks'
import { who, signIn, signOut } from './api'
import { Confirmation } from './actions'
import { PAGES, helpOpen } from './keys'
import { link } from './live'
import { go, href, route } from './router'
import { stats } from './state'
import { short } from './text'
import { switchTheme, theme } from './theme'
import { Dialog, Failure, Toasts } from './ui'
import { Icon } from './icons'
import { Overview } from './pages/overview'
import { Jobs } from './pages/jobs'
import { JobPage } from './pages/job'
import { Nodes, NodePage } from './pages/nodes'
import { Queues } from './pages/queues'
import { Gantt } from './pages/gantt'
import { Cron } from './pages/cron'
import { Failures } from './pages/failures'
import { Events } from './pages/events'
import { Submit } from './pages/submit'

function Page() {
  const { page, rest } = route.value
  switch (page) {
    case 'overview': return <Overview />
    case 'jobs': return rest[0] ? <JobPage id={rest[0]} key={rest[0]} /> : <Jobs />
    case 'nodes': return rest[0] ? <NodePage name={rest[0]} key={rest[0]} /> : <Nodes />
    case 'queues': return <Queues />
    case 'cron': return <Cron />
    case 'gantt': return <Gantt />
    case 'failures': return <Failures />
    case 'events': return <Events />
    case 'submit': return <Submit />
    default:
      return (
        <div class="page">
          <h1>There is no such page</h1>
          <p><a href="#/overview">Go to the overview</a></p>
        </div>
      )
  }
}

// A number is a job; anything else is looked for among the names of jobs.
function Search() {
  const look = (e: Event) => {
    e.preventDefault()
    const box = document.querySelector<HTMLInputElement>('#search')!
    const text = box.value.trim()
    if (!text) return
    box.blur()
    box.value = ''
    if (/^\d+(_\d+)?$/.test(text)) go(href('jobs', text))
    else if (/^node:/.test(text)) go(href('nodes', text.slice(5)))
    else go(href('jobs') + '?name=' + encodeURIComponent(/[*?[]/.test(text) ? text : `*${text}*`))
  }
  return (
    <form class="search" role="search" onSubmit={look}>
      <Icon name="search" />
      <input id="search" type="search" placeholder="Job id or name, node:NAME" aria-label="Search" autocomplete="off" />
      <kbd>/</kbd>
    </form>
  )
}

const LINKS = { live: 'live', connecting: 'connecting', lost: 'not connected' }

function Top() {
  const s = stats.value
  return (
    <header class="top">
      <a class="brand" href="#/overview"><Icon name="logo" /> Rota</a>
      <Search />
      <span class={`link l-${link.value}`} title="The stream of events from the master"><i />{LINKS[link.value]}</span>
      <span class="grow" />
      {s && !s.ready && <span class="warn">the master is starting</span>}
      <a class="button primary" href="#/submit" title="Submit a job (c)"><Icon name="plus" /><span class="wide">Submit</span></a>
      <button class="icon" onClick={switchTheme} title={theme.value === 'dark' ? 'Light colours' : 'Dark colours'} aria-label="Switch colours">
        <Icon name={theme.value === 'dark' ? 'sun' : 'moon'} />
      </button>
      <button class="icon" onClick={() => (helpOpen.value = true)} title="Keys (?)" aria-label="Keys"><Icon name="help" /></button>
      <span class="who wide" title={`role: ${who.value?.role}`}>{who.value?.user}</span>
      <button class="icon" onClick={signOut} title="Sign out" aria-label="Sign out"><Icon name="out" /></button>
    </header>
  )
}

const badge = (page: string) => {
  const s = stats.value
  if (!s) return null
  const sum = (counts: Record<string, number>, ...names: string[]) => names.reduce((n, name) => n + (counts[name] ?? 0), 0)
  if (page === 'jobs') return sum(s.jobs, 'held', 'blocked', 'queued', 'dispatched', 'running', 'uncertain', 'retry_wait', 'cancelling')
  if (page === 'nodes') return sum(s.nodes, 'joining', 'ready', 'suspect', 'draining', 'drained', 'quarantined', 'down')
  if (page === 'failures') return s.jobs.failed ?? 0
  return null
}

const Nav = () => (
  <nav class="nav" aria-label="Pages">
    {PAGES.map(([key, page, label]) => {
      const n = badge(page)
      return (
        <a key={page} href={'#/' + page} class={route.value.page === page ? 'here' : ''} aria-current={route.value.page === page ? 'page' : undefined} title={`g ${key}`}>
          <Icon name={page} />
          <span>{label}</span>
          {n ? <b>{short(n)}</b> : null}
        </a>
      )
    })}
  </nav>
)

const KEYS: [string, string][] = [
  ['/', 'search'], ['j k', 'next, previous row'], ['Enter', 'open the row'], ['x', 'choose the row'], ['Esc', 'leave; choose nothing'],
  ['c', 'submit a job'], ['?', 'this help'],
]

const Help = () => (
  <Dialog title="Keys" close={() => (helpOpen.value = false)}>
    <table class="keys">
      <tbody>
        {KEYS.map(([key, what]) => <tr key={key}><td>{key.split(' ').map((k) => <kbd key={k}>{k}</kbd>)}</td><td>{what}</td></tr>)}
        {PAGES.map(([key, , label]) => <tr key={key}><td><kbd>g</kbd> <kbd>{key}</kbd></td><td>{label}</td></tr>)}
        <tr><td><kbd>a</kbd> <kbd>h</kbd> <kbd>r</kbd></td><td>on a job or chosen jobs: cancel, hold, run again</td></tr>
        <tr><td><kbd>f</kbd> <kbd>w</kbd></td><td>in a log: follow, wrap lines</td></tr>
      </tbody>
    </table>
    <div class="buttons"><button onClick={() => (helpOpen.value = false)}>Close</button></div>
  </Dialog>
)

function SignIn() {
  const [token, setToken] = useState('')
  const [error, setError] = useState<unknown>(null)
  const [busy, setBusy] = useState(false)
  const submit = async (e: Event) => {
    e.preventDefault()
    setBusy(true)
    setError(null)
    try {
      await signIn({ token: token.trim() })
    } catch (problem) {
      setError(problem)
    }
    setBusy(false)
  }
  return (
    <main class="signin">
      <form onSubmit={submit}>
        <h1><Icon name="logo" /> Rota</h1>
        <label>
          Token
          <input type="password" value={token} onInput={(e) => setToken(e.currentTarget.value)} autocomplete="current-password" autofocus required placeholder="rota_…" />
        </label>
        <button class="primary" disabled={busy}>Sign in</button>
        {error !== null && <Failure of={error} />}
        <p class="muted">
          The first token is in the file <code>token</code> of the master's state directory. It is exchanged for a session that ends
          eight hours after its last use.
        </p>
      </form>
    </main>
  )
}

export function App() {
  if (who.value === undefined) return <main class="signin"><p class="muted">Waiting for the master…</p></main>
  if (who.value === null) return <SignIn />
  return (
    <>
      <Top />
      <Nav />
      <main class="main"><Page /></main>
      <Confirmation />
      {helpOpen.value && <Help />}
      <Toasts />
    </>
  )
}

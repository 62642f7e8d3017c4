// A form for one job, with the command that does the same. ?like=ID begins with a copy of another job.
import { useEffect, useState } from 'preact/hooks'
import { call, get } from '../api'
import { go, href, route } from '../router'
import { quote } from '../text'
import type { JobDetail } from '../types'
import { Command, Failure, Panel, toast } from '../ui'

type Form = {
  command: string; shell: boolean; name: string; queue: string; priority: string; cpus: string; mem: string; gpus: string; nodes: string; time: string
  retries: string; array: string; after: string; labels: string; env: string; workdir: string; image: string; hold: boolean
}
const EMPTY: Form = { command: '', shell: true, name: '', queue: '', priority: '', cpus: '', mem: '', gpus: '', nodes: '', time: '', retries: '', array: '', after: '', labels: '', env: '', workdir: '', image: '', hold: false }

// Words as a shell splits them: blanks, quotes, backslashes; nothing is expanded.
export function words(line: string): string[] {
  const out: string[] = []
  let word = '', inside = false, quoted = ''
  for (let i = 0; i < line.length; i++) {
    const c = line[i]
    if (quoted === "'") c === "'" ? (quoted = '') : (word += c)
    else if (c === '\\' && i + 1 < line.length) (word += line[++i]), (inside = true)
    else if (quoted) c === quoted ? (quoted = '') : (word += c)
    else if (c === '"' || c === "'") (quoted = c), (inside = true)
    else if (/\s/.test(c)) {
      if (inside) out.push(word)
      word = ''
      inside = false
    } else (word += c), (inside = true)
  }
  if (inside) out.push(word)
  return out
}

const pairs = (text: string) => Object.fromEntries(text.split('\n').map((l) => l.trim()).filter(Boolean).map((l) => { const at = l.indexOf('='); return at < 0 ? [l, ''] : [l.slice(0, at), l.slice(at + 1)] }))
const argv = (f: Form) => (f.shell ? ['sh', '-c', f.command] : words(f.command))

function spec(f: Form) {
  const s: Record<string, unknown> = { command: argv(f) }
  for (const key of ['name', 'queue', 'mem', 'time', 'array', 'workdir', 'image'] as const) if (f[key].trim()) s[key] = f[key].trim()
  for (const key of ['cpus', 'gpus', 'nodes', 'priority', 'retries'] as const) if (f[key].trim()) s[key] = Number(f[key])
  if (f.after.trim()) s.after = f.after.split(/[\s,]+/).filter(Boolean).map((part) => { const [job, when] = part.split(':'); return { job: Number(job), ...(when ? { when } : {}) } })
  if (f.labels.trim()) s.labels = pairs(f.labels)
  if (f.env.trim()) s.env = pairs(f.env)
  if (f.hold) s.hold = true
  return s
}

function line(f: Form): string {
  const out = ['rota', 'submit']
  for (const key of ['name', 'queue', 'priority', 'cpus', 'mem', 'gpus', 'nodes', 'time', 'retries', 'array', 'workdir', 'image'] as const) if (f[key].trim()) out.push('--' + key, quote(f[key].trim()))
  for (const part of f.after.split(/[\s,]+/).filter(Boolean)) out.push('--after', quote(part))
  for (const [k, v] of Object.entries(pairs(f.labels))) out.push('--label', quote(`${k}=${v}`))
  for (const [k, v] of Object.entries(pairs(f.env))) out.push('--env', quote(`${k}=${v}`))
  if (f.hold) out.push('--hold')
  return [...out, '--', ...argv(f).map(quote)].join(' ')
}

function copyOf(j: JobDetail): Form {
  const lines = (p?: Record<string, string>) => Object.entries(p ?? {}).map(([k, v]) => `${k}=${v}`).join('\n')
  const shell = j.command?.length === 3 && j.command[0] === 'sh' && j.command[1] === '-c'
  const text = (n: number | null | undefined) => (n ? String(n) : '')
  return {
    ...EMPTY, shell, command: shell ? j.command![2] : (j.command ?? []).map(quote).join(' '), name: j.name ?? '', queue: j.queue === 'default' ? '' : j.queue, priority: text(j.priority), cpus: text(j.cpus),
    mem: text(j.mem_bytes), gpus: text(j.gpus), nodes: j.nodes > 1 ? String(j.nodes) : '', time: j.time_limit_s ? `${j.time_limit_s}s` : '', retries: text(j.retries), labels: lines(j.labels), env: lines(j.env), workdir: j.workdir ?? '', image: j.image ?? '',
    array: j.array && j.nodes <= 1 ? `${j.first}-${(j.first ?? 0) + (j.tasks - 1) * (j.step ?? 1)}${j.step && j.step > 1 ? `:${j.step}` : ''}${j.limit ? `%${j.limit}` : ''}` : '',
  }
}

export function Submit() {
  const [form, setForm] = useState(EMPTY)
  const [error, setError] = useState<unknown>(null)
  const [busy, setBusy] = useState(false)
  const like = route.value.query.get('like')
  useEffect(() => {
    if (like) get<JobDetail>(`/v1/jobs/${encodeURIComponent(like)}`).then((j) => setForm(copyOf(j)), setError)
  }, [like])
  const submit = async (e: globalThis.Event) => {
    e.preventDefault()
    setBusy(true)
    setError(null)
    try {
      const { id } = await call<{ id: number }>('POST', '/v1/jobs', spec(form))
      toast(`Job ${id} was submitted`)
      go(href('jobs', id))
    } catch (problem) {
      setError(problem)
      setBusy(false)
    }
  }
  const text = (key: keyof Form, label: string, hint: string, more: Record<string, unknown> = {}) => (
    <label>{label}<input name={key} value={form[key] as string} placeholder={hint} onInput={(e) => setForm({ ...form, [key]: e.currentTarget.value })} {...more} /></label>
  )
  const area = (key: keyof Form, label: string, hint: string, first = false) => (
    <label class={first ? 'all' : ''}>{label}<textarea name={key} value={form[key] as string} placeholder={hint} required={first} autofocus={first} onInput={(e) => setForm({ ...form, [key]: e.currentTarget.value })} /></label>
  )
  const check = (key: 'shell' | 'hold', label: string) => (
    <label class="check"><input type="checkbox" name={key} checked={form[key]} onChange={(e) => setForm({ ...form, [key]: e.currentTarget.checked })} />{label}</label>
  )
  return (
    <div class="page">
      <h1>Submit a job</h1>
      <form onSubmit={submit}>
        <Panel title="What to run">
          <div class="form">
            {area('command', 'Command', form.shell ? 'echo hello; ./train.sh --epochs 3' : './train.sh --epochs 3', true)}
            {check('shell', 'by a shell (sh -c)')}
            {text('name', 'Name', 'train')}
            {text('array', 'Array', '1-1000%50; {} in the command is the index')}
            {text('workdir', 'Directory', '/data/run')}
          </div>
        </Panel>
        <div class="columns three spaced">
          <Panel title="What it needs"><div class="form">
            {text('cpus', 'CPUs', '1', { inputMode: 'decimal' })}{text('mem', 'Memory', '512M, 4G')}{text('gpus', 'GPUs', '0', { inputMode: 'decimal' })}{text('nodes', 'Nodes at once', '1', { inputMode: 'numeric' })}{text('time', 'Time limit', '90s, 2h30m')}{text('image', 'Image', 'for containers')}
          </div></Panel>
          <Panel title="When"><div class="form">
            {text('queue', 'Queue', 'default')}{text('priority', 'Priority', '0', { inputMode: 'numeric' })}{text('retries', 'Retries', '0', { inputMode: 'numeric' })}{text('after', 'After', '17, 18:any')}{check('hold', 'hold it until it is released')}
          </div></Panel>
          <Panel title="With"><div class="form">{area('env', 'Environment', 'NAME=value, one a line')}{area('labels', 'Labels', 'team=vision, one a line')}</div></Panel>
        </div>
        {error !== null && <Failure of={error} />}
        <Panel title="The same as a command">
          <Command line={line(form)} />
          <div class="buttons"><button class="primary" disabled={busy || !form.command.trim()}>Submit</button></div>
        </Panel>
      </form>
    </div>
  )
}

// Everything that changes something: asked first, with a reason, and with the command that does the same.
import { signal } from '@preact/signals'
import { useState } from 'preact/hooks'
import { call, selectorPath } from './api'
import { number, plain, plural, quote } from './text'
import type { Changed } from './types'
import { Command, Dialog, Failure, toast } from './ui'

export type Verb = 'cancel' | 'hold' | 'release' | 'retry' | 'drain' | 'resume'
type Ask = { verb: Verb; what: string; targets: string[]; done?: () => void }

export const asking = signal<Ask | null>(null)

const VERBS: Record<Verb, { title: string; button: string; tells: string; danger?: boolean; node?: boolean }> = {
  cancel: { title: 'Cancel', button: 'Cancel them', danger: true, tells: 'Nothing of them will start any more; what runs gets SIGTERM and, after its grace, SIGKILL.' },
  hold: { title: 'Hold', button: 'Hold', tells: 'They will not start until they are released. What runs goes on.' },
  release: { title: 'Release', button: 'Release', tells: 'They may start as soon as there is room.' },
  retry: { title: 'Run again', button: 'Run again', tells: 'What ended without success is submitted again as new jobs; what waits before its next attempt does not wait any longer.' },
  drain: { title: 'Drain', button: 'Drain', node: true, tells: 'Nothing new starts on the node; what runs there goes on to its end.' },
  resume: { title: 'Resume', button: 'Resume', node: true, tells: 'The node takes new work again.' },
}

export const ask = (verb: Verb, targets: string[], what: string, done?: () => void) => (asking.value = { verb, targets, what, done })

// "3,4,5,9" as "3-5,9": shorter, and what a person would write.
export function ranges(targets: string[]): string {
  const ids = targets.filter((t) => /^\d+$/.test(t)).map(Number).sort((a, b) => a - b)
  const parts: string[] = []
  for (let i = 0; i < ids.length; ) {
    let end = i
    while (end + 1 < ids.length && ids[end + 1] === ids[end] + 1) end++
    parts.push(end > i ? `${ids[i]}-${ids[end]}` : String(ids[i]))
    i = end + 1
  }
  return [...parts, ...targets.filter((t) => !/^\d+$/.test(t))].join(',')
}

// A selector is bounded (4,096 bytes), so that a long list takes several requests.
export function selectors(targets: string[]): string[] {
  const out: string[] = []
  let part = ''
  for (const piece of ranges(targets).split(',')) {
    if (part && part.length + piece.length > 3000) {
      out.push(part)
      part = ''
    }
    part += (part ? ',' : '') + piece
  }
  if (part) out.push(part)
  return out
}

export function commandOf(verb: Verb, targets: string[], reason: string): string {
  const names = VERBS[verb].node ? targets : selectors(targets).flatMap((s) => s.split(' '))
  return ['rota', verb, ...names.map(quote), ...(reason ? ['--reason', quote(reason)] : [])].join(' ')
}

async function perform({ verb, targets }: Ask, reason: string): Promise<string> {
  const body = reason ? { reason } : {}
  if (VERBS[verb].node) {
    for (const name of targets) await call('POST', `/v1/nodes/${selectorPath(name)}/${verb}`, body)
    return `${VERBS[verb].title}: ${targets.map(plain).join(', ')}`
  }
  let changed = 0
  let told = ''
  for (const selector of selectors(targets)) {
    const answer = await call<Changed>('POST', `/v1/jobs/${selectorPath(selector)}/${verb}`, body)
    changed += answer.submitted ?? answer.changed
    if (answer.problem) told = answer.problem
    if (verb === 'retry' && answer.ids.length) told ||= 'new: ' + ranges(answer.ids.map(String)).slice(0, 80)
  }
  return `${VERBS[verb].title}: ${number(changed)} changed${told ? ` (${told})` : ''}`
}

function Confirm({ of }: { of: Ask }) {
  const [reason, setReason] = useState('')
  const [busy, setBusy] = useState(false)
  const [error, setError] = useState<unknown>(null)
  const verb = VERBS[of.verb]
  const close = () => (asking.value = null)
  const confirm = async (e: Event) => {
    e.preventDefault()
    setBusy(true)
    setError(null)
    try {
      toast(await perform(of, reason.trim()))
      close()
      of.done?.()
    } catch (problem) {
      setError(problem)
      setBusy(false)
    }
  }
  return (
    <Dialog title={`${verb.title}: ${plain(of.what)}`} close={close}>
      <form onSubmit={confirm}>
        <p class="muted">{verb.tells}</p>
        <label>
          Reason <span class="muted">(kept with the event)</span>
          <input data-first value={reason} maxLength={200} onInput={(e) => setReason(e.currentTarget.value)} placeholder="for whoever asks later" />
        </label>
        <label>
          The same as a command
          <Command line={commandOf(of.verb, of.targets, reason.trim())} />
        </label>
        {error !== null && <Failure of={error} />}
        <div class="buttons">
          <button type="button" onClick={close}>Back</button>
          <button type="submit" class={verb.danger ? 'danger' : 'primary'} disabled={busy}>
            {verb.node || of.targets.length === 1 ? verb.title : `${verb.title} ${plural(of.targets.length, 'job')}`}
          </button>
        </div>
      </form>
    </Dialog>
  )
}

export const Confirmation = () => (asking.value ? <Confirm of={asking.value} key={asking.value.verb + asking.value.what} /> : null)

// Talking to the master: same origin only, with the session's cookie, which no script can read.
import { signal } from '@preact/signals'
import type { Who } from './types'

export const who = signal<Who | null | undefined>(undefined) // undefined: not known yet; null: signed out

export class Problem extends Error {
  constructor(readonly status: number, detail: string, readonly field?: string, readonly remedy?: string) {
    super(detail)
  }
}

export async function request(method: string, path: string, body?: unknown, stop?: AbortSignal): Promise<Response> {
  let answer: Response
  try {
    answer = await fetch(path, {
      method,
      credentials: 'same-origin',
      redirect: 'error',
      signal: stop,
      headers: method === 'GET' ? {} : { 'Content-Type': 'application/json' },
      body: method === 'GET' || method === 'DELETE' ? undefined : JSON.stringify(body ?? {}),
    })
  } catch (error) {
    if (stop?.aborted) throw error
    throw new Problem(0, 'the master does not answer', undefined, 'is it running? The page tries again by itself')
  }
  if (answer.ok) return answer
  if (answer.status === 401 && path !== '/v1/session') who.value = null
  let told: { detail?: string; field?: string; remedy?: string } = {}
  try {
    told = await answer.json()
  } catch {
    // not one of the master's answers; the status has to do
  }
  throw new Problem(answer.status, told.detail ?? `the master answered ${answer.status}`, told.field, told.remedy)
}

export async function call<T>(method: string, path: string, body?: unknown, stop?: AbortSignal): Promise<T> {
  return (await request(method, path, body, stop)).json()
}

export const get = <T>(path: string, stop?: AbortSignal) => call<T>('GET', path, undefined, stop)

export function query(parameters: Record<string, string | number | null | undefined>): string {
  const q = new URLSearchParams()
  for (const [name, value] of Object.entries(parameters)) if (value !== null && value !== undefined && value !== '') q.set(name, String(value))
  const text = q.toString()
  return text ? '?' + text : ''
}

export const selectorPath = (selector: string) => encodeURIComponent(selector)

export async function checkSession() {
  const answer = await get<Who | { user: null }>('/v1/session')
  who.value = answer.user === null ? null : (answer as Who)
}

export async function signIn(secret: { token: string } | { ticket: string }) {
  who.value = await call<Who>('POST', '/v1/session', secret)
}

export async function signOut() {
  try {
    await request('DELETE', '/v1/session')
  } finally {
    who.value = null
  }
}

// Numbers, times and other people's text as people read them.

export const number = (n: number) => n.toLocaleString('en-US')

export function short(n: number): string {
  if (n < 10_000) return number(Math.round(n))
  for (const [unit, size] of [['k', 1e3], ['M', 1e6], ['G', 1e9]] as const)
    if (n < size * 999.5) return (n / size).toFixed(n < size * 99.95 ? 1 : 0) + unit
  return n.toExponential(1)
}

export function bytes(n: number): string {
  if (n < 1024) return `${n} B`
  let unit = -1
  do {
    n /= 1024
    unit++
  } while (n >= 1024 && unit < 4)
  return `${n < 10 ? n.toFixed(1) : Math.round(n)} ${'KMGTP'[unit]}iB`
}

// As the command line reads it, and not less.
export const size = (n: number) => (n % 2 ** 30 === 0 ? `${n / 2 ** 30}G` : n >= 2 ** 20 ? `${Math.ceil(n / 2 ** 20)}M` : String(n))

// Long names, with their ends: there names differ.
export const middle = (text: string, most: number) => (text.length <= most ? text : `${text.slice(0, Math.ceil((most - 1) / 2))}…${text.slice(text.length - Math.floor((most - 1) / 2))}`)

export const cpus = (n: number) => (Number.isInteger(n) ? number(n) : n.toFixed(n < 10 ? 2 : 1).replace(/0$/, ''))

export function duration(s: number): string {
  if (s < 0) s = 0
  if (s > 0 && s < 0.00995) return `${(s * 1000).toFixed(1)} ms`
  if (s < 0.0995) return `${Math.round(s * 1000)} ms`
  if (s < 9.95) return `${s.toFixed(1)} s`
  if (s < 60) return `${Math.round(s)} s`
  const whole = Math.round(s)
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, '0')} s`
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${String(Math.floor((whole % 3600) / 60)).padStart(2, '0')} min`
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`
}

// The same where there is little room.
export function brief(s: number): string {
  if (s < 60) return duration(s)
  const whole = Math.round(s)
  if (whole < 3600) return `${Math.floor(whole / 60)}m ${String(whole % 60).padStart(2, '0')}s`
  if (whole < 86400) return `${Math.floor(whole / 3600)}h ${String(Math.floor((whole % 3600) / 60)).padStart(2, '0')}m`
  return `${Math.floor(whole / 86400)}d ${Math.floor((whole % 86400) / 3600)}h`
}

const two = (n: number) => String(n).padStart(2, '0')

export function clock(at: string | number | Date): string {
  const t = new Date(at)
  return `${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())}`
}

export function stamp(at: string | null | undefined): string {
  if (!at) return '–'
  const t = new Date(at)
  return `${t.getFullYear()}-${two(t.getMonth() + 1)}-${two(t.getDate())} ${clock(t)}`
}

export function when(at: string | null | undefined): string {
  if (!at) return '–'
  const t = new Date(at)
  return new Date().toDateString() === t.toDateString() ? clock(t) : `${two(t.getMonth() + 1)}-${two(t.getDate())} ${two(t.getHours())}:${two(t.getMinutes())}`
}

export const since = (at: string | null | undefined, until?: string | null) =>
  at ? Math.max(0, ((until ? Date.parse(until) : Date.now()) - Date.parse(at)) / 1000) : 0

// Names come from anybody. What would turn the direction of the text or not be seen is shown as a mark.
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\ufff9-\ufffb]/g
export const plain = (text: string) => text.replace(UNSEEN, (c) => `‹${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}›`)

// As a shell reads it.
export const quote = (word: string) => (/^[A-Za-z0-9_@%+=:,./-]+$/.test(word) ? word : `'${word.replace(/'/g, `'\\''`)}'`)

export const plural = (n: number, one: string, many = one + 's') => `${number(n)} ${n === 1 ? one : many}`

// "exit 3", "signal 9", "out of memory": how something ended, in few words.
export function ending(e: { reason: string | null; exit_code: number | null; signal: number | null }): string {
  if (e.reason === 'exit' || (e.reason === null && e.exit_code)) return `exit ${e.exit_code ?? '?'}`
  if (e.reason === 'signal') return `signal ${e.signal ?? '?'}`
  if (e.reason) return e.reason.replace(/_/g, ' ')
  return e.exit_code === 0 ? 'exit 0' : ''
}

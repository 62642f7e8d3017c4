// The output of an attempt: read as it is written, kept as lines, shown as far as it is seen.
import { useEffect, useMemo, useRef, useState } from 'preact/hooks'
import { Colours, type Piece } from './ansi'
import { Problem, query, request } from './api'
import { useKeys } from './keys'
import { number, plural } from './text'
import { Failure, VirtualList } from './ui'

const LINES_MAX = 50_000 // older ones are let go
const SHOWN_MAX = 4000 // characters of a line
const TAIL = 5000 // lines asked for at first

type Line = { n: number; pieces: Piece[]; plain: string; more: number }

class Log {
  lines: Line[] = []
  dropped = 0
  attempt = 0
  bytes = 0
  ended = false
  error: unknown = null
  private rest = ''
  private restMore = 0
  private colours = new Colours()
  private count = 0
  private stop = new AbortController()

  constructor(private changed: () => void) {}

  close() {
    this.stop.abort()
  }

  async read(path: string) {
    try {
      const answer = await request('GET', path, undefined, this.stop.signal)
      this.attempt = Number(answer.headers.get('Rota-Attempt')) || 0
      const reader = answer.body!.getReader()
      const decoder = new TextDecoder()
      for (;;) {
        const { done, value } = await reader.read()
        if (done) break
        this.bytes += value.length
        this.push(decoder.decode(value, { stream: true }))
        this.changed()
      }
      if (this.rest) this.push('\n')
      this.ended = true
    } catch (error) {
      if (this.stop.signal.aborted) return
      this.error = error instanceof Problem ? error : new Problem(0, 'the stream of the log broke off', undefined, 'what was read is below')
    }
    this.changed()
  }

  private push(text: string) {
    let start = 0
    for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n', start)) {
      this.grow(text.slice(start, end))
      this.end()
      start = end + 1
    }
    this.grow(text.slice(start))
    if (this.lines.length > LINES_MAX) {
      const over = this.lines.length - LINES_MAX
      this.lines = this.lines.slice(over)
      this.dropped += over
    }
  }

  // A line without end is kept up to a bound and counted beyond it.
  private grow(text: string) {
    const room = Math.max(0, 4 * SHOWN_MAX - this.rest.length)
    this.rest += text.slice(0, room)
    this.restMore += Math.max(0, text.length - room)
  }

  private end() {
    let text = this.rest.endsWith('\r') ? this.rest.slice(0, -1) : this.rest
    text = text.slice(text.lastIndexOf('\r') + 1) // a progress bar writes over itself
    const cut = Math.max(0, text.length - SHOWN_MAX)
    const pieces = this.colours.line(text.slice(0, SHOWN_MAX))
    this.lines.push({ n: ++this.count, pieces, plain: pieces.map((p) => p.text).join('').toLowerCase(), more: cut + this.restMore })
    this.rest = ''
    this.restMore = 0
  }
}

export function LogView({ id, attempts, live, first }: { id: string; attempts: number; live: boolean; first: 'stdout' | 'stderr' }) {
  const [stream, setStream] = useState(first)
  const [attempt, setAttempt] = useState(0)
  const [follow, setFollow] = useState(true)
  const [wrap, setWrap] = useState(false)
  const [look, setLook] = useState('')
  const [hit, setHit] = useState(0)
  const [, redraw] = useState(0)
  const frame = useRef(0)
  const [round, again] = useState(0)
  const chosen = attempt || attempts || 0
  const log = useMemo(() => {
    return new Log(() => {
      frame.current ||= requestAnimationFrame(() => {
        frame.current = 0
        redraw((n) => n + 1)
      })
    })
  }, [id, stream, attempt, attempt ? 0 : attempts, round])
  useEffect(() => {
    log.read(`/v1/jobs/${id}/logs` + query({ stream, attempt: chosen || null, tail: TAIL, follow: '1' }))
    return () => log.close()
  }, [log])
  const wanted = look.toLowerCase()
  const hits = useMemo(() => (wanted ? log.lines.flatMap((line, i) => (line.plain.includes(wanted) ? [i] : [])) : []), [wanted, log.lines.length])
  const at = hits.length ? hits[hit % hits.length] : undefined
  useKeys({ f: () => setFollow(!follow), w: () => setWrap(!wrap) })
  const raw = `/v1/jobs/${id}/logs` + query({ stream, attempt: chosen || null })
  const row = (i: number) => {
    const line = log.lines[i]
    return (
      <div class={`line ${i === at ? 'hit' : ''}`}>
        <b>{line.n}</b>
        <span>{line.pieces.map((p, k) => (p.style ? <span key={k} class={p.style}>{p.text}</span> : p.text))}{line.more > 0 && <span class="note"> … {number(line.more)} more characters</span>}</span>
      </div>
    )
  }
  return (
    <section class="panel" aria-label="Output">
      <header class="log-bar">
        <h2>Output</h2>
        <div class="tabs" role="tablist">
          {(['stdout', 'stderr'] as const).map((s) => <button key={s} role="tab" aria-selected={s === stream} class={s === stream ? 'on' : ''} onClick={() => setStream(s)}>{s}</button>)}
        </div>
        {attempts > 1 && (
          <select aria-label="Attempt" value={attempt} onChange={(e) => setAttempt(Number(e.currentTarget.value))}>
            <option value={0}>last attempt</option>
            {Array.from({ length: Math.min(attempts, 200) }, (_, i) => attempts - i).map((n) => <option key={n} value={n}>attempt {n}</option>)}
          </select>
        )}
        <input type="search" placeholder="find" aria-label="Find in the output" value={look} onInput={(e) => { setLook(e.currentTarget.value); setHit(0); setFollow(false) }} onKeyDown={(e) => e.key === 'Enter' && setHit((n) => n + (e.shiftKey ? hits.length - 1 : 1))} />
        {wanted && <span class="muted">{hits.length ? `${(hit % hits.length) + 1} of ${number(hits.length)}` : 'not found'}</span>}
        <span class="aside">
          <span class="muted">{log.ended ? '' : live ? 'writing' : ''} {plural(log.lines.length, 'line')}{log.dropped ? `, ${number(log.dropped)} older ones left out` : ''}</span>
          <button class={`small ${follow ? 'primary' : ''}`} aria-pressed={follow} onClick={() => setFollow(!follow)} title="f">Follow</button>
          <button class="small" aria-pressed={wrap} onClick={() => setWrap(!wrap)} title="w">{wrap ? 'No wrap' : 'Wrap'}</button>
          <a class="button small" href={raw} target="_blank" rel="noopener">Raw</a>
        </span>
      </header>
      {log.error !== null && <div class="flush"><Failure of={log.error} again={() => again(round + 1)} /></div>}
      {log.lines.length === 0 ? (
        <div class="log flush empty">{log.ended ? 'It wrote nothing.' : 'Nothing yet. What it writes appears here at once.'}</div>
      ) : wrap ? (
        <Wrapped lines={log.lines} row={row} follow={follow} />
      ) : (
        <VirtualList count={log.lines.length} height={18} row={row} class="log" tall={Math.max(8, log.lines.length) * 18} stick={follow} at={at} label="Lines" onScroll={(end) => { if (!end && follow && log.ended) setFollow(false) }} />
      )}
    </section>
  )
}

// Lines of different heights: the last thousand, all in the document.
function Wrapped({ lines, row, follow }: { lines: Line[]; row: (i: number) => preact.ComponentChildren; follow: boolean }) {
  const box = useRef<HTMLDivElement>(null)
  useEffect(() => {
    if (follow && box.current) box.current.scrollTop = box.current.scrollHeight
  })
  const first = Math.max(0, lines.length - 1000)
  return <div class="scroller log wrap" ref={box} tabIndex={0}>{lines.slice(first).map((_, i) => <div key={first + i}>{row(first + i)}</div>)}</div>
}

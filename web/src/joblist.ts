// A list of jobs as the server pages it, kept up to date by events: rows that are shown are fetched again when something
// happened to them, and new jobs are added at the top.
import { signal } from '@preact/signals'
import { get, query } from './api'
import { onEvents } from './live'
import { refresher } from './state'
import type { Counts, Event, Job, JobPage } from './types'

const PAGE = 200
const AGAIN_MAX = 300 // rows fetched again in one request
export type Filter = Record<string, string | null>

export class JobList {
  readonly rows = signal<Job[]>([])
  readonly counts = signal<Counts>({})
  readonly total = signal(0)
  readonly state = signal<'loading' | 'ready' | 'end'>('loading')
  readonly error = signal<unknown>(null)
  private next: string | null = null
  private dirty = new Set<number>()
  private fresh = false
  private stop = new AbortController()
  private busy = false
  private readonly off: () => void
  readonly ask = refresher(() => this.refresh(), () => 400)

  constructor(private readonly filter: Filter) {
    this.off = onEvents((events) => this.hear(events))
    this.more()
  }

  close() {
    this.off()
    this.stop.abort()
  }

  private path(more: Record<string, string | number | null>) {
    return '/v1/jobs' + query({ ...this.filter, ...more })
  }

  // The next page. An empty one with a cursor behind it is no end: the server looks at so many jobs and no more.
  more = async () => {
    if (this.busy || this.state.value === 'end') return
    this.busy = true
    try {
      for (let looked = 0; looked < 50; looked++) {
        const page: JobPage = await get(this.path({ limit: PAGE, cursor: this.next }), this.stop.signal)
        this.next = page.next
        this.count(page)
        if (page.jobs.length) {
          const known = new Set(this.rows.value.map((j) => j.id))
          this.rows.value = [...this.rows.value, ...page.jobs.filter((j) => !known.has(j.id))]
        }
        this.state.value = page.next ? 'ready' : 'end'
        this.error.value = null
        if (page.jobs.length || !page.next) break
      }
    } catch (error) {
      if (!this.stop.signal.aborted) this.error.value = error
    }
    this.busy = false
  }

  private count(page: JobPage) {
    this.counts.value = page.listed
    this.total.value = Object.values(page.counts).reduce((a, b) => a + b, 0)
  }

  private hear(events: Event[] | null) {
    if (!events) {
      for (const row of this.rows.value) this.dirty.add(row.id)
      this.fresh = true
    } else {
      for (const e of events) {
        if (!e.job) continue
        if (e.event === 'job.submitted' || this.filter.state) this.fresh = true
        this.dirty.add(e.job)
      }
    }
    if (this.fresh || this.dirty.size) this.ask()
  }

  // What was shown is fetched by number, whatever its state is now: a row that is looked at does not vanish. What could not be
  // fetched, or was too much for one request, stays old, and is asked for again.
  private async refresh() {
    const here = new Set(this.rows.value.map((row) => row.id))
    const old = [...this.dirty].filter((id) => here.has(id))
    const now = old.slice(0, AGAIN_MAX)
    const fresh = this.fresh
    this.dirty = new Set(old.slice(AGAIN_MAX))
    this.fresh = false
    try {
      await this.fetch(now, fresh)
    } catch (error) {
      now.forEach((id) => this.dirty.add(id))
      this.fresh ||= fresh
      throw error
    }
    if (this.dirty.size || this.fresh) this.ask()
  }

  private async fetch(ids: number[], fresh: boolean) {
    const changed = new Map<number, Job>()
    if (ids.length) {
      const page: JobPage = await get('/v1/jobs' + query({ selector: ids.join(','), limit: 1000 }), this.stop.signal)
      for (const job of page.jobs) changed.set(job.id, job)
      this.count(page)
    }
    let added: Job[] = []
    if (fresh) {
      const page: JobPage = await get(this.path({ limit: PAGE }), this.stop.signal)
      this.count(page)
      const known = new Set(this.rows.value.map((j) => j.id))
      added = page.jobs.filter((j) => !known.has(j.id))
      for (const job of page.jobs) changed.set(job.id, job)
      if (page.next && added.length === page.jobs.length && this.rows.value.length) {
        this.rows.value = page.jobs // more came than a page holds: what was shown is far below
        this.next = page.next
        this.state.value = 'ready'
        return
      }
    }
    if (changed.size)
      this.rows.value = [...added, ...this.rows.value.map((j) => changed.get(j.id) ?? j)].sort((a, b) => (this.filter.order === 'asc' ? a.id - b.id : b.id - a.id))
  }
}

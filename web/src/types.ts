// What the API answers (schema/openapi.yaml), as far as the page reads it.
export type Counts = Record<string, number>
export type Amounts = { cpus: number; mem_bytes: number; gpus: number; resources: Record<string, number> }
export type Time = string | null

export type Job = {
  id: number; name: string | null; user: string; queue: string; state: string; priority: number
  cpus: number; mem_bytes: number; gpus: number; resources: Record<string, number>; nodes: number
  array: boolean; tasks: number; counts: Counts
  submitted_at: Time; started_at: Time; ended_at: Time
  attempts: number; node: string | null; reason: string | null; exit_code: number | null; signal: number | null
}
export type JobPage = { jobs: Job[]; next: string | null; counts: Counts; listed: Counts }
export type JobDetail = Job & {
  first?: number; step?: number; limit?: number | null
  time_limit_s: number | null; grace_s: number | null; retries: number; begin_at: Time; deadline_at: Time
  after: { job: number; when: string }[]; after_left: number; retry_of: number | null
  command?: string[]; env?: Record<string, string>; labels?: Record<string, string>
  workdir?: string | null; stdin?: string | null; stdout?: string | null; stderr?: string | null
  mem_max_bytes: number | null; cron?: string | null; cron_due?: Time; note?: string | null
  suggestion: { runs: number; ooms: number; mem_max_bytes: number; mem_bytes: number; cpus_max: number | null; cpus: number | null } | null
  image?: string | null; overlap_never?: boolean; stdout_tail?: string; stderr_tail?: string
}
export type Task = {
  id: string; job: number; index: number; name: string | null; user: string; queue: string; state: string; attempts: number
  node: string | null; started_at: Time; reason: string | null; exit_code: number | null; signal: number | null; note: string | null
}
export type TaskPage = { tasks: Task[]; next: string | null; counts: Counts }
export type Attempt = {
  task: number | null; attempt: number; node: string | null; assigned_at: Time; started_at: Time; ended_at: Time; rule: string | null; over: number | null
  final: string | null; reason: string | null; exit_code: number | null; signal: number | null
  run_s: number; cpu_s: number; rss_max_bytes: number; stdout_bytes: number; stderr_bytes: number
  stdout_gap: boolean; stderr_gap: boolean; may_have_run: boolean
}
export type Why = {
  id: number; state: string; reason: string; text: string; all: { reason: string; text: string }[]
  nodes_ready: number; nodes_total: number; nodes_asked: number; nodes_now: number; nodes_ever: number
  dims: { name: string; need: number; free_most: number; capacity_most: number; nodes_refused: number }[]
  blocked_by: number | null; jobs_before: number; due_in_s: number | null; estimate: Estimate
  nodes_out: Record<string, number>
  change: { kind: 'allow' | 'priority' | 'time_limit' | 'less' | 'nodes'; nodes?: number; release: boolean; raise_limits: boolean; submit_again: boolean; priority?: number; time_limit_s?: number; cpus?: number; mem_bytes?: number; gpus?: number } | null
}
export type Estimate = {
  start_at: Time; end_at: Time; node: string | null; basis: 'limits' | 'usual' | 'assumed' | null; basis_job: number | null; made_at: Time
  because: { reason: string; text: string } | null; depth: number; history: { made_at: string; start_at: string }[]; changes: number; error_s: number | null
}
export type Usage = { requested: Amounts & { time_limit_s: number | null }; attempts: number; run_s: number; cpu_s: number; rss_max_bytes: number; cut: boolean
  now: { attempts: number; cpus: number; mem_bytes: number; processes: number } | null
  samples: { attempt: number; started_at: Time; points: UsagePoint[] } | null
}
export type UsagePoint = { at_s: number; cpu_s: number; mem_bytes: number; mem_max_bytes: number; read_bytes: number; written_bytes: number; processes: number }
export type Node = {
  name: string; id: number; state: string; reason: string | null; version: string; labels: string
  capacity: Amounts; allocated: Amounts; used: { cpus: number; mem_bytes: number; load: number } | null
  running: number; waiting: number; heard_ago_s: number | null; lease_renewed_ago_s: number | null; connected: boolean
  machine: { enforces: string; disk_bytes: number; disk_free_bytes: number; pressure_percent: { cpu: number; memory: number; io: number } | null; gpus: { count: number; used: number; mem_used_bytes: number; mem_bytes: number } | null } | null
}
export type Limits = { running: number | null; cpus: number | null; mem_bytes: number | null; gpus: number | null; pending: number | null; submits_per_minute: number | null }
export type QueueSettings = { limits: Limits; weight: number | null; order: string | null; priority: number; paused: boolean; reason: string | null }
export type Queue = { name: string; jobs: Counts; tasks: Counts; settings: QueueSettings }
export type Share = { account: string; user: string | null; weight: number; target_share: number; used_share: number; held_now: number; waiting: number }
export type CronEntry = {
  name: string; user: string; schedule: string; zone: string; overlap: string; missed: string; paused: boolean
  last_job: number | null; last_job_open: boolean; submitted: number; passed: number
  last_passed: { due: string; reason: string; text: string | null } | null
  next: string[]; problem: string | null; job: { command?: string[] }
}
export type Stats = {
  version: string; epoch: number; started_at: string; ready: boolean; job_last: number
  jobs: Counts; tasks: Counts; nodes: Counts
  totals: { submitted: number; started: number; succeeded: number; failed: number; cancelled: number; retried: number }
  scheduler: { cycles: number; placements: number; shapes: number; stale_messages: number; memory_bytes: number }
  capacity: Amounts; allocated: Amounts
  store: { last_seq: number; commits: number; records: number; bytes: number; wal_bytes: number; commit_s_last: number; commit_s_max: number; errors: number; low: boolean; free_bytes: number }
  bus: { kind: string; up: boolean; sent: number; received: number; dropped: number }
  http: { requests: number; refused: number; connections: number; event_streams: number; event_gaps: number }
}
export type Changed = { matched: number; changed: number; ids: number[]; submitted?: number; problem: string | null }
export type Who = { user: string; role: string }
export type Event = { seq: number; at: Time; event: string; job?: number; task?: number; attempt?: number; node?: string; [field: string]: unknown }

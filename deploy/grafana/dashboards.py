#!/usr/bin/python3
"""Writes dashboards/*.json. A test holds them against the published schema, and runs every query on a real cluster.

A panel is: title, kind, unit, what it means, queries (expression, legend). Kinds: stat, lines, area (stacked), heat, table.
`$__rate_interval`, `$queue` and `$node` are expanded by Grafana.
"""
import json
import os

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = {'type': 'prometheus', 'uid': '${datasource}'}
SCHEMA_VERSION = 42
WIDTH = 24


def rate(metric, by=''):
    return f'sum{f" by ({by})" if by else ""} (rate({metric}[$__rate_interval]))'


def quantile(q, metric, by='', where=''):
    labels = f'{by}, le' if by else 'le'
    return f'histogram_quantile({q}, sum by ({labels}) (rate({metric}_bucket{where}[$__rate_interval])))'


def quantiles(metric, where=''):
    return [(quantile(q, metric, where=where), name) for q, name in ((0.5, 'median'), (0.9, '90 %'), (0.99, '99 %'))]


def heat(metric, where=''):
    return [(f'sum by (le) (increase({metric}_bucket{where}[$__rate_interval]))', '{{le}}')]


MASTER = '{job="rota-master"}'
NODE = '{node=~"$node"}'
QUEUE = '{queue=~"$queue"}'

CLUSTER = [
    ('Now', [
        ('Nodes ready', 'stat', 'none', 'Nodes that take work.', [('sum(rota_nodes{state="ready"})', '')]),
        ('Nodes not ready', 'stat', 'none', 'Known nodes that take no work: silent, drained, set aside.',
         [('sum(rota_nodes{state!~"ready|removed"})', '')]),
        ('Running', 'stat', 'none', 'Tasks that run.', [('sum(rota_jobs{state="running"})', '')]),
        ('Waiting', 'stat', 'none', 'Tasks that wait, whatever for.', [('sum(rota_pending_jobs)', '')]),
        ('Longest wait', 'stat', 's', 'Of a task that could run.', [('max(rota_oldest_wait_seconds)', '')]),
        ('Failing', 'stat', 'percentunit', 'Share of the tasks that ended lately.',
         [('sum(rate(rota_jobs_finished_total{outcome="failed"}[$__rate_interval])) / (sum(rate(rota_jobs_finished_total[$__rate_interval])) > 0)', '')]),
        ('Bus', 'stat', 'bool_on_off', 'Whether the master is connected to the bus.', [('min(rota_bus_up{job="rota-master"})', '')]),
        ('Store low', 'stat', 'bool_yes_no', 'Whether the store has too little space to accept anything.', [('max(rota_store_low)', '')]),
    ]),
    ('Tasks', [
        ('Tasks by state', 'area', 'none', 'Tasks that have not ended.', [('sum by (state) (rota_jobs)', '{{state}}')]),
        ('What tasks wait for', 'area', 'none', 'The first reason that keeps each waiting task from running.',
         [('sum by (reason) (rota_pending_jobs)', '{{reason}}')]),
        ('Throughput', 'lines', 'ops', 'Tasks started and ended a second.',
         [(rate('rota_attempts_started_total'), 'started'), (rate('rota_jobs_finished_total', 'outcome'), '{{outcome}}')]),
    ]),
    ('Resources of ready nodes', [
        ('CPU', 'lines', 'none', 'Cores there are, given to tasks, and busy.',
         [('sum(rota_cpu_capacity_cores)', 'capacity'), ('sum(rota_cpu_allocated_cores)', 'allocated'), ('sum(rota_cpu_used_cores)', 'used')]),
        ('Memory', 'lines', 'bytes', 'Memory there is, given to tasks, and used on the machines.',
         [('sum(rota_memory_capacity_bytes)', 'capacity'), ('sum(rota_memory_allocated_bytes)', 'allocated'), ('sum(rota_memory_used_bytes)', 'used')]),
        ('GPU', 'lines', 'none', 'GPUs there are, given to tasks, and busy.',
         [('sum(rota_gpu_capacity)', 'capacity'), ('sum(rota_gpu_allocated)', 'allocated'), ('sum(rota_gpu_used)', 'used')]),
        ('GPU memory', 'lines', 'bytes', 'Used on the GPUs of ready nodes.', [('sum(rota_gpu_memory_used_bytes)', 'used')]),
        ('Nodes by state', 'area', 'none', 'Known nodes.', [('sum by (state) (rota_nodes{state!="removed"})', '{{state}}')]),
        ('CPU by node', 'lines', 'percentunit', 'Cores given to tasks, as a share of what the node offers.',
         [('sum by (node) (rota_worker_cpu_allocated_cores) / sum by (node) (rota_worker_cpu_capacity_cores)', '{{node}}')]),
    ]),
]

SCHEDULING = [
    ('Queues', [
        ('Waiting by reason', 'area', 'none', 'Tasks of the queues by the first reason that keeps them from running.',
         [(f'sum by (reason) (rota_pending_jobs{QUEUE})', '{{reason}}')]),
        ('Waiting by queue', 'area', 'none', 'Tasks that wait.', [(f'sum by (queue) (rota_pending_jobs{QUEUE})', '{{queue}}')]),
        ('Running by queue', 'area', 'none', 'Tasks that run.',
         [('sum by (queue) (rota_queue_jobs{queue=~"$queue", state="running"})', '{{queue}}')]),
        ('Longest wait', 'lines', 's', 'Of a task that could run and waits.', [(f'max by (queue) (rota_oldest_wait_seconds{QUEUE})', '{{queue}}')]),
    ]),
    ('Waiting times', [
        ('Wait before the start', 'lines', 's', 'Of the tasks that started, from when they could run.', quantiles('rota_queue_wait_seconds', QUEUE)),
        ('90 % started within', 'lines', 's', 'By queue.', [(quantile(0.9, 'rota_queue_wait_seconds', 'queue', QUEUE), '{{queue}}')]),
        ('Waits', 'heat', 's', 'How many tasks started after which wait.', heat('rota_queue_wait_seconds', QUEUE)),
        ('Starts by queue', 'lines', 'ops', 'First attempts started a second.', [(rate('rota_queue_wait_seconds_count' + QUEUE, 'queue'), '{{queue}}')]),
    ]),
    ('Jobs that come again', [
        ('Due times', 'lines', 'none', 'An hour, by what became of them: refused is to be looked at.', [('3600 * ' + rate('rota_cron_due_total', 'result'), '{{result}}')]),
        ('Entries', 'lines', 'none', 'Those that are not paused.', [('sum(rota_cron_entries)', 'entries')]),
    ]),
    ('The scheduler', [
        ('From decision to start', 'lines', 's', 'How long a placed task takes to start.', quantiles('rota_dispatch_seconds')),
        ('Estimates are off by', 'lines', 's', 'Distance between the expected and the real end of attempts.', quantiles('rota_run_estimate_error_seconds')),
        ('Starts are off by', 'lines', 's', 'Distance between the first estimate of a start and the start.', quantiles('rota_start_estimate_error_seconds')),
        ('Cycle', 'lines', 's', 'Time of one scheduling cycle.', quantiles('rota_scheduler_cycle_seconds')),
        ('Placements', 'lines', 'ops', 'Tasks placed on a node a second.', [(rate('rota_scheduler_placements_total'), 'placed')]),
        ('Shapes', 'lines', 'none', 'Different requests: what a cycle costs goes with them.', [('sum(rota_scheduler_shapes)', 'shapes')]),
    ]),
]

NODES = [
    ('Now', [
        ('Connected', 'stat', 'bool_yes_no', 'Whether the worker has its master.', [(f'min(rota_worker_master_connected{NODE})', '')]),
        ('Running', 'stat', 'none', 'Attempts that run.', [('sum(rota_worker_attempts{node=~"$node", state="running"})', '')]),
        ('Free disk', 'stat', 'bytes', 'On the disk of the state directory.', [(f'min(rota_disk_free_bytes{NODE})', '')]),
        ('Load', 'stat', 'none', 'Load average over a minute.', [(f'max(rota_worker_load_average{NODE})', '')]),
    ]),
    ('Resources', [
        ('CPU', 'lines', 'none', 'Cores offered, given to attempts, and busy on the machine.',
         [(f'sum(rota_worker_cpu_capacity_cores{NODE})', 'capacity'), (f'sum(rota_worker_cpu_allocated_cores{NODE})', 'allocated'),
          (f'sum(rota_worker_cpu_used_cores{NODE})', 'used')]),
        ('Memory', 'lines', 'bytes', 'Memory offered, given to attempts, and used on the machine.',
         [(f'sum(rota_worker_memory_capacity_bytes{NODE})', 'capacity'), (f'sum(rota_worker_memory_allocated_bytes{NODE})', 'allocated'),
          (f'sum(rota_worker_memory_used_bytes{NODE})', 'used')]),
        ('GPU', 'lines', 'none', 'GPUs offered, given to attempts, and busy.',
         [(f'sum(rota_worker_gpu_capacity{NODE})', 'capacity'), (f'sum(rota_worker_gpu_allocated{NODE})', 'allocated'),
          (f'sum(rota_worker_gpu_used{NODE})', 'used')]),
        ('GPU memory', 'lines', 'bytes', 'Used on the GPUs of a machine.', [(f'sum by (node) (rota_worker_gpu_memory_used_bytes{NODE})', '{{node}}')]),
        ('Disk', 'lines', 'bytes', 'Disk of the state directory, and output of jobs kept on it.',
         [(f'sum(rota_worker_disk_bytes{NODE})', 'size'), (f'sum(rota_disk_free_bytes{NODE})', 'free'), (f'sum(rota_worker_spool_bytes{NODE})', 'output of jobs')]),
    ]),
    ('Attempts', [
        ('Attempts by state', 'area', 'none', 'Accepted ones wait for a place; ended ones wait for the master to confirm their end.',
         [(f'sum by (state) (rota_worker_attempts{NODE})', '{{state}}')]),
        ('Ends', 'lines', 'ops', 'Attempts that ended a second, by reason; none: they succeeded.', [(rate('rota_worker_exits_total' + NODE, 'reason'), '{{reason}}')]),
        ('Time to start a process', 'lines', 's', 'From the order to the process.', quantiles('rota_worker_spawn_seconds', NODE)),
        ('Failed starts', 'lines', 'ops', 'Attempts that could not be started a second.', [(rate('rota_worker_spawn_failures_total' + NODE, 'reason'), '{{reason}}')]),
    ]),
    ('The worker', [
        ('Reports not confirmed', 'lines', 'none', 'Ends that the master has not confirmed.', [(f'sum by (node) (rota_worker_reports_unacknowledged{NODE})', '{{node}}')]),
        ('Journal', 'lines', 's', 'Time of one durable append.', quantiles('rota_store_commit_seconds', NODE)),
        ('CPU of the worker', 'lines', 'percentunit', 'Of one core.', [(rate('process_cpu_seconds_total' + NODE, 'node'), '{{node}}')]),
        ('Memory of the worker', 'lines', 'bytes', 'Resident.', [(f'sum by (node) (process_resident_memory_bytes{NODE})', '{{node}}')]),
        ('Bus', 'lines', 'none', 'Connected, and connections made anew.',
         [(f'sum by (node) (rota_bus_up{NODE})', '{{node}} up'), (f'sum by (node) (rota_bus_reconnects_total{NODE})', '{{node}} reconnects')]),
    ]),
]

JOBS = [
    ('Ends', [
        ('Succeeded', 'stat', 'none', 'In the time shown.', [('sum(increase(rota_jobs_finished_total{outcome="succeeded"}[$__range]))', '')]),
        ('Failed', 'stat', 'none', 'In the time shown.', [('sum(increase(rota_jobs_finished_total{outcome="failed"}[$__range]))', '')]),
        ('Cancelled', 'stat', 'none', 'In the time shown.', [('sum(increase(rota_jobs_finished_total{outcome="cancelled"}[$__range]))', '')]),
        ('Uncertain', 'stat', 'none', 'Attempts on nodes that are silent.', [('sum(rota_jobs{state="uncertain"})', '')]),
    ]),
    ('Flow', [
        ('Submitted, started, ended', 'lines', 'ops', 'Tasks a second.',
         [(rate('rota_jobs_submitted_total'), 'submitted'), (rate('rota_attempts_started_total'), 'started'), (rate('rota_jobs_finished_total'), 'ended')]),
        ('Word of ends', 'lines', 'ops', 'URLs told of the end of a job, and given up, a second.', [(rate('rota_notices_total', 'result'), '{{result}}')]),
        ('Refused submissions', 'lines', 'ops', 'By reason.', [(rate('rota_jobs_rejected_total', 'reason'), '{{reason}}')]),
    ]),
    ('Failures', [
        ('Failed for good', 'area', 'ops', 'Tasks a second, by reason.', [(rate('rota_jobs_failed_total', 'reason'), '{{reason}}')]),
        ('Tried again', 'area', 'ops', 'Attempts a second that are followed by another, by reason.', [(rate('rota_attempts_retried_total', 'reason'), '{{reason}}')]),
        ('Share that failed', 'lines', 'percentunit', 'Of the tasks that ended.',
         [('sum(rate(rota_jobs_finished_total{outcome="failed"}[$__rate_interval])) / (sum(rate(rota_jobs_finished_total[$__rate_interval])) > 0)', 'failed')]),
    ]),
    ('Run time', [
        ('Run time', 'lines', 's', 'Of the attempts that ended.', quantiles('rota_run_seconds')),
        ('Run times', 'heat', 's', 'How many attempts ran for how long.', heat('rota_run_seconds')),
    ]),
]

INTERNALS = [
    ('Store', [
        ('Commit', 'lines', 's', 'Time of one durable append of the master.', quantiles('rota_store_commit_seconds', MASTER)),
        ('Commits and records', 'lines', 'ops', 'A second. Many records in a commit: the master is busy and syncs seldom.',
         [(rate('rota_store_commits_total' + MASTER), 'commits'), (rate('rota_store_records_total'), 'records')]),
        ('Decided, not yet durable', 'lines', 'none', 'Records.', [('sum(rota_store_pending_records)', 'records')]),
        ('Size', 'lines', 'bytes', 'Store, its write-ahead log, and free space on the disk.',
         [(f'sum(rota_store_bytes{MASTER})', 'store'), ('sum(rota_store_wal_bytes)', 'log'), (f'sum(rota_disk_free_bytes{MASTER})', 'free')]),
        ('Errors', 'lines', 'none', 'Appends that failed since the start.', [('sum(rota_store_errors_total)', 'errors')]),
    ]),
    ('Messages', [
        ('Batches', 'lines', 'ops', 'Of the master, a second.', [(rate('rota_bus_messages_total' + MASTER, 'direction'), '{{direction}}')]),
        ('Bytes', 'lines', 'Bps', 'Of the master, a second.', [(rate('rota_bus_bytes_total' + MASTER, 'direction'), '{{direction}}')]),
        ('Not used', 'lines', 'ops', 'Messages dropped, by reason, and messages that came too late.',
         [(rate('rota_bus_dropped_messages_total', 'reason'), '{{reason}}'), (rate('rota_stale_messages_total'), 'too late')]),
        ('Heartbeats', 'lines', 'ops', 'A second.', [(rate('rota_heartbeats_total'), 'heartbeats')]),
        ('Longest silence of a node', 'lines', 's', 'Of those that should be there.', [('max(rota_node_silent_seconds)', 'silence')]),
        ('Nodes that changed state', 'lines', 'none', 'In five minutes, by the state they came into.', [('sum by (state) (increase(rota_node_changes_total[5m]))', '{{state}}')]),
    ]),
    ('API', [
        ('Requests', 'area', 'reqps', 'By class of status.', [(rate('rota_http_requests_total' + MASTER, 'code'), '{{code}}')]),
        ('Time to answer', 'lines', 's', 'Streams left out.', quantiles('rota_http_request_seconds')),
        ('Connections and event streams', 'lines', 'none', 'Open now.', [(f'sum(rota_http_connections{MASTER})', 'connections'), ('sum(rota_sse_clients)', 'event streams')]),
        ('Turned away', 'lines', 'ops', 'Wrong tokens, requests refused before any route, and gaps told to slow streams, a second.',
         [(rate('rota_auth_failures_total'), 'wrong token'), (rate('rota_http_refused_total' + MASTER), 'refused'), (rate('rota_sse_gaps_total'), 'gaps')]),
    ]),
    ('Processes', [
        ('Turn of the loop', 'lines', 's', 'How long others had to wait, 99 %.', [(quantile(0.99, 'rota_loop_delay_seconds', 'instance'), '{{instance}}')]),
        ('CPU', 'lines', 'percentunit', 'Of one core.', [('sum by (instance) (rate(process_cpu_seconds_total{job=~"rota-.*"}[$__rate_interval]))', '{{instance}}')]),
        ('Memory', 'lines', 'bytes', 'Resident.', [('sum by (instance) (process_resident_memory_bytes{job=~"rota-.*"})', '{{instance}}')]),
        ('Memory of the job table', 'lines', 'bytes', 'And of its indexes.', [('sum(rota_scheduler_memory_bytes)', 'jobs')]),
        ('File descriptors', 'lines', 'percentunit', 'Open, as a share of what is allowed.',
         [('sum by (instance) (process_open_fds{job=~"rota-.*"}) / sum by (instance) (process_max_fds{job=~"rota-.*"})', '{{instance}}')]),
        ('Up for', 'lines', 's', 'Since the process was started.', [('time() - max by (instance) (process_start_time_seconds{job=~"rota-.*"})', '{{instance}}')]),
        ('Versions', 'table', 'none', 'Processes by version.', [('count by (job, version) (rota_build_info)', '')]),
        ('Executors', 'table', 'none', 'Workers by how they run jobs.', [('count by (executor) (rota_worker_info)', '')]),
    ]),
]

BOARDS = [
    ('cluster', 'Rota: cluster', 'Is it well, and is it busy?', CLUSTER, ()),
    ('scheduling', 'Rota: queues and scheduling', 'Who waits, how long, and for what.', SCHEDULING, ('queue',)),
    ('nodes', 'Rota: nodes', 'One node, or several.', NODES, ('node',)),
    ('jobs', 'Rota: jobs', 'How jobs end and how long they run.', JOBS, ()),
    ('internals', 'Rota: internals', 'Store, messages, API and processes of Rota itself.', INTERNALS, ()),
]

LABELS = {'queue': ('Queue', 'label_values(rota_queue_jobs, queue)'), 'node': ('Node', 'label_values(rota_worker_info, node)')}

ON_OFF = {
    'bool_on_off': {'0': ('down', 'red'), '1': ('up', 'green')},
    'bool_yes_no': {'0': ('no', 'text'), '1': ('yes', 'text')},
}
BAD_ABOVE_0 = {'Nodes not ready', 'Failing', 'Store low', 'Uncertain', 'Failed'}


def field_config(title, kind, unit):
    defaults = {'unit': 'none' if unit.startswith('bool_') else unit, 'color': {'mode': 'palette-classic'}}
    if unit in ON_OFF:
        defaults['mappings'] = [{'type': 'value', 'options': {v: {'text': t, 'color': c, 'index': int(v)} for v, (t, c) in ON_OFF[unit].items()}}]
    if kind == 'stat':
        steps = [{'value': None, 'color': 'green'}]
        if title in BAD_ABOVE_0:
            steps.append({'value': 0.000001, 'color': 'orange'})
        defaults['color'] = {'mode': 'thresholds'}
        defaults['thresholds'] = {'mode': 'absolute', 'steps': steps}
    if kind in ('lines', 'area'):
        defaults['min'] = 0
        defaults['custom'] = {'drawStyle': 'line', 'lineWidth': 1, 'fillOpacity': 25 if kind == 'area' else 5, 'showPoints': 'never',
                              'stacking': {'mode': 'normal' if kind == 'area' else 'none', 'group': 'A'}}
    return {'defaults': defaults, 'overrides': []}


OPTIONS = {
    'stat': {'reduceOptions': {'calcs': ['lastNotNull'], 'fields': '', 'values': False}, 'colorMode': 'value', 'graphMode': 'area', 'textMode': 'auto'},
    'timeseries': {'legend': {'displayMode': 'list', 'placement': 'bottom', 'showLegend': True}, 'tooltip': {'mode': 'multi', 'sort': 'desc'}},
    'heatmap': {'calculate': False, 'yAxis': {'unit': 's'}, 'cellGap': 1, 'color': {'mode': 'scheme', 'scheme': 'Blues', 'steps': 64},
                'legend': {'show': True}, 'tooltip': {'mode': 'single', 'yHistogram': True}},
    'table': {'showHeader': True},
}


def panel(number, title, kind, unit, meaning, queries, place):
    plugin = {'stat': 'stat', 'lines': 'timeseries', 'area': 'timeseries', 'heat': 'heatmap', 'table': 'table'}[kind]
    targets = []
    for index, (expression, legend) in enumerate(queries):
        target = {'refId': chr(ord('A') + index), 'datasource': SOURCE, 'editorMode': 'code', 'expr': expression,
                  'legendFormat': legend or '__auto', 'range': kind not in ('table',), 'instant': kind == 'table'}
        if kind in ('heat', 'table'):
            target['format'] = 'heatmap' if kind == 'heat' else 'table'
        targets.append(target)
    return {'id': number, 'type': plugin, 'title': title, 'description': meaning, 'datasource': SOURCE, 'gridPos': place,
            'fieldConfig': field_config(title, kind, unit), 'options': OPTIONS[plugin], 'targets': targets,
            'links': [{'title': 'Open Rota', 'type': 'link', 'url': '${rota_url}/', 'targetBlank': True, 'icon': 'external link', 'tooltip': '',
                       'tags': [], 'asDropdown': False, 'includeVars': False, 'keepTime': False}] if kind == 'stat' else []}


def sizes(kinds):
    """Widths and heights of the panels of a row, from left to right, wrapped at the full width."""
    stats = sum(kind == 'stat' for kind in kinds)
    others = len(kinds) - stats
    per_line = 2 if others in (2, 4) else 3
    return [(WIDTH // stats, 4) if kind == 'stat' else (WIDTH // min(per_line, others), 8) for kind in kinds]


def panels(sections):
    made, number, y = [], 1, 0
    for title, content in sections:
        made.append({'id': number, 'type': 'row', 'title': title, 'collapsed': False, 'panels': [], 'gridPos': {'x': 0, 'y': y, 'w': WIDTH, 'h': 1}})
        number, y, x, line = number + 1, y + 1, 0, 0
        for one, (width, height) in zip(content, sizes([p[1] for p in content])):
            if x + width > WIDTH:
                x, y = 0, y + line
            made.append(panel(number, *one, {'x': x, 'y': y, 'w': width, 'h': height}))
            number, x, line = number + 1, x + width, height
        y += line
    return made


def variables(names):
    made = [{'name': 'datasource', 'type': 'datasource', 'label': 'Prometheus', 'query': 'prometheus', 'refresh': 1, 'hide': 0},
            {'name': 'rota_url', 'type': 'textbox', 'label': 'Dashboard of Rota', 'query': 'http://127.0.0.1:7682', 'hide': 0,
             'current': {'text': 'http://127.0.0.1:7682', 'value': 'http://127.0.0.1:7682', 'selected': True}}]
    for name in names:
        label, query = LABELS[name]
        made.append({'name': name, 'type': 'query', 'label': label, 'datasource': SOURCE, 'query': {'query': query, 'refId': name}, 'refresh': 2,
                     'includeAll': True, 'multi': True, 'allValue': '.*', 'sort': 1, 'current': {'text': 'All', 'value': '$__all', 'selected': True}})
    return made


def links():
    made = [{'title': 'Rota', 'type': 'link', 'url': '${rota_url}/', 'targetBlank': True, 'icon': 'external link', 'tooltip': 'The live dashboard of Rota itself',
             'tags': [], 'asDropdown': False, 'includeVars': False, 'keepTime': False}]
    made.append({'title': 'Dashboards', 'type': 'dashboards', 'tags': ['rota'], 'asDropdown': True, 'includeVars': True, 'keepTime': True,
                 'targetBlank': False, 'icon': 'apps', 'tooltip': ''})
    return made


def board(name, title, meaning, sections, names):
    return {'uid': f'rota-{name}', 'title': title, 'description': meaning, 'tags': ['rota'], 'timezone': 'browser', 'editable': True,
            'graphTooltip': 1, 'schemaVersion': SCHEMA_VERSION, 'version': 1, 'refresh': '10s', 'time': {'from': 'now-1h', 'to': 'now'},
            'templating': {'list': variables(names)}, 'annotations': {'list': []}, 'links': links(), 'panels': panels(sections)}


def main(folder=os.path.join(HERE, 'dashboards')):
    for name, *rest in BOARDS:
        with open(os.path.join(folder, f'{name}.json'), 'w', encoding='utf-8') as out:
            json.dump(board(name, *rest), out, indent=1)
            out.write('\n')


if __name__ == '__main__':
    main()

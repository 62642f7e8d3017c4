/* master_int.h: what the files of the master's shell share.
 *
 * One thread runs everything here; the store has one of its own behind its port. Callbacks of loop, HTTP and bus step
 * the brain at once (master_step), which adds the effects to the gate; at the end of each turn of the loop the gate is
 * sealed and its batch goes to the store. When the store says it is durable, the batch's sends and replies are
 * performed. */
#ifndef ROTA_MASTER_INT_H
#define ROTA_MASTER_INT_H

#include "api/auth.h"
#include "api/feed.h"
#include "api/route.h"
#include "api/select.h"
#include "api/session.h"
#include "base/list.h"
#include "bus/bus.h"
#include "core/model/gate.h"
#include "core/sched/sched_view.h"
#include "io/http.h"
#include "io/loop.h"
#include "master/keys.h"
#include "master/live_usage.h"
#include "master/master.h"
#include "master/node_report.h"
#include "master/recent.h"
#include "master/sizing.h"
#include "master/spec_cache.h"
#include "obs/metrics.h"
#include "store/store.h"
#include "wire/json_out.h"
#include "wire/spec.h"
#include "wire/wire.h"

/* Gathered and not durable: here streams of jobs and bulk changes pause, ... */
#define GATE_RECORDS_MAX 16384u
#define GATE_BYTES_MAX (64u * 1024 * 1024)  /* specs that wait with them */
#define GATE_REFUSE 4u                      /* ... and at so many times as much other submissions are refused */
#define JOB_BODY_MAX (1024u * 1024)         /* one request that is no stream; one line of a stream */
#define SCAN_TURN_NS 8000000                /* how long walks over jobs may keep the loop in one turn */
#define SCANS_MAX 1000u                     /* waits and bulk changes at the same time */
#define LOG_READERS_MAX 256u
#define DELAYED_MAX 256u                    /* answers to wrong tokens held back at the same time */

/* What rides along with the records of one batch. Two of them change places as the gate's sides do. */
struct ride {
    struct arena arena;
    struct store_job *jobs; size_t jobs_count, jobs_cap;
    struct store_tail *tails; size_t tails_count, tails_cap;
    struct list_node keys;       /* struct key_entry: idempotency keys that the store does not know yet */
    size_t bytes;
};

/* Plain numbers for the metrics, counted where it happens and shown when somebody asks. */
struct master_counts {
    uint64_t node_changes[NODE_STATES];
    uint64_t cron_due[CRON_PASSES];    /* NEVER: a job was submitted */
    uint64_t http_classes[5];          /* answers by hundreds of their status */
    uint64_t messages_in, messages_out, bytes_in, bytes_out, heartbeats;
    struct metric_series **waits;      /* by queue; NULL: not used yet */
    size_t waits_count;
};

struct master;
struct log_reader;
struct scan;
struct bulk;
struct sse_client;
struct backup;
struct whatif_question;
struct snapshotter;
struct notify;
struct crons;

/* One HTTP exchange. Lives while its request lives or somebody holds it. */
struct exchange {
    struct master *m;
    struct http_request *r;      /* NULL: the client is gone */
    const struct route *route;
    char *arg;                   /* the placeholder's text; NULL: none */
    const struct auth_identity *who; /* NULL on open routes */
    bool by_cookie;              /* who it is is known from a session, not from a bearer token */
    struct buf body;
    uint32_t holds;
    bool answered;
    int64_t begun_ns;
    /* the answer, made when it was decided and sent when it may be */
    int status;
    const char *type;
    struct buf answer;
    struct err err;              /* status < 0: this instead */
    char location[40];
    /* at most one of these */
    struct bulk *bulk;
    struct scan *scan;
    struct log_reader *log;
    struct sse_client *sse;
    int64_t delayed_until_ms;    /* an answer to a wrong token */
    struct list_node delayed;
    struct list_node waiting;    /* in m->waiting: its answer is at the gate */
};

struct master {
    const struct master_config *config;
    struct loop *loop;
    struct store *store;
    struct sched *sched;
    struct gate *gate;
    struct bus *bus;
    struct http_server *http;
    struct auth *auth;
    struct sessions *sessions;   /* of browsers */
    uint64_t sessions_written;   /* sessions_changes when the file was written */
    int64_t sessions_due_ms;     /* when it may be written again */
    struct store_meta meta;
    uint64_t epoch;
    char owner[65];              /* OS user who started the master: the admin token's user */

    int64_t now_ms, wall_ms;     /* of this turn; 0: not read yet */
    int64_t wake_at_ms;          /* the brain's next tick */
    const struct effects *fx;    /* of the last step */
    struct effects fx_last;

    struct ride rides[2];
    int ride_filling;
    const struct gate_batch *batch; /* at the store; NULL: none */
    int64_t batch_begun_ns;
    bool batch_full;             /* it did not fit; it is appended again */
    int64_t batch_full_since_ms;
    int64_t append_again_at_ms;
    int64_t flush_at_ms;              /* what has gathered waits until then for more; INT64_MAX: nothing waits */
    bool store_low;              /* nothing new is accepted and nothing started */
    int64_t housekeeping_at_ms;
    uint64_t committed_seq;
    struct master_counts counts;

    struct key_table *keys;      /* idempotency keys on their way to the store */
    struct spec_cache *specs;
    struct arena turn;           /* reset at the top of each turn */
    struct arena submit;
    struct {                     /* the last job that was read of a stream */
        struct buf line, encoded;
        struct arena arena;
        struct job_spec spec;
        uint8_t digest[KEY_DIGEST_BYTES];
        const struct auth_identity *who;
        bool valid;
    } memo;

    struct wire_writer *wire;
    struct arena inbound;        /* the batch being decoded */
    struct outbound *out;        /* by session, while a batch is performed */

    struct list_node requests;   /* struct bus_request: jobs asked for over the bus, not answered yet */

    struct list_node scans;      /* struct scan */
    size_t scans_count;
    struct list_node blocked;    /* struct scan: waits whose next job has not ended */
    struct list_node streams;    /* struct bulk: streams of jobs that are being read */
    struct list_node bulks;      /* struct bulk: those that are paused */
    struct list_node logs;       /* struct log_reader */
    size_t logs_count;
    uint64_t log_request_last;
    struct list_node delayed;    /* struct exchange */
    size_t delayed_count;
    struct list_node waiting;    /* struct exchange, in the order of their answers */
    struct { uint64_t job; uint32_t first, step; } numbered; /* of an array that left memory: last asked for */
    struct feed feed;
    int64_t heartbeat_at_ms;     /* of event streams */
    struct { bool bus_up; const char *store; } told; /* of its health, to event streams */
    int64_t feed_due_ms;         /* what was gathered for event streams goes out; INT64_MAX: nothing was */
    struct list_node sse;        /* struct sse_client */
    struct live_usage *usage;    /* of attempts that run */
    struct node_reports *reports;
    struct buf lease_url;           /* made when first needed */
    struct recent *recent;       /* the last hour */
    struct sizing *sizing;       /* what jobs of the same name used */
    struct { uint64_t mem_bytes; int64_t until_ms; } largest_node; /* memory of the largest one that is not down, good for a moment */
    struct buf pending;          /* the answer to what waits, good for a moment */
    int64_t pending_until_ms;
    struct snapshotter *snapshots;
    struct sched_config sched_config; /* what the brain was made with */
    struct backup *backup;       /* under way; NULL: none */
    struct whatif_question *whatif; /* likewise */
    struct notify *notify;
    struct crons *crons;

    bool ready;                  /* EPOCH is durable */
    bool stopping;
    int64_t started_wall_ms;
    int exit_code;               /* -1: go on */
    struct err failure;
};

/* --- master.c --- */
int64_t master_now_ms(struct master *m);
/* Steps the brain and adds its effects to the gate. m->fx are they, until the next step. */
void master_step(struct master *m, struct sched_event *ev, struct sched_result *result);
struct ride *master_ride(struct master *m);       /* the one that gathers */
bool master_crowded(struct master *m);            /* what can wait with more records waits */
bool master_full(struct master *m);               /* no room for more */
bool master_quiet(struct master *m);              /* nothing has been decided that is not durable */
void master_fail(struct master *m, int exit_code, const struct err *err); /* ends master_run with this */

/* --- master_lease.c --- */
struct bytes lease_url(struct master *m); /* where workers may keep their leases while the bus is silent; empty: nowhere */

/* --- master_http.c: exchanges --- */
void master_http_events(struct master *m, struct http_events *events);
void exchange_hold(struct exchange *x);
void exchange_drop(struct exchange *x);           /* may free x */
/* Decides the answer from x->answer; it is sent when everything decided before is durable. May free x: do not touch it
 * after. */
void exchange_reply(struct exchange *x, int status, const char *type);
void exchange_json(struct exchange *x, int status);
void exchange_error(struct exchange *x, const struct err *err);
/* The same without waiting: for answers that tell nothing of jobs. */
void exchange_reply_now(struct exchange *x, int status, const char *type);
void exchange_error_now(struct exchange *x, const struct err *err);
void exchange_send(struct exchange *x);           /* the gate opened */
/* Tells everybody whose answer is at the gate that it is not known when it opens: 504. What they asked for stays decided. */
void exchanges_tell_unknown(struct master *m);
void master_delayed_run(struct master *m);
/* Answers a wrong token or ticket: the more came from there, the later. */
void exchange_refuse(struct exchange *x, const struct err *err);
/* Query parameter as a number; `missing` if absent. */
int exchange_query_u64(struct exchange *x, const char *name, uint64_t min, uint64_t max, uint64_t missing,
                       uint64_t *out, struct err *err);
void problem_json(struct buf *out, const struct err *err,
                  struct bytes members); /* members: ",\"accepted\":3" or empty */

/* --- master_submit.c --- */
void submit_body(struct exchange *x, struct bytes piece); /* a piece of a stream of jobs */
void submit_gone(struct exchange *x);
int submit_no_space(struct err *err);                     /* fills it: the disk of the store has no room */
void submit_resume(struct master *m);                     /* after a commit: streams that were paused go on */
/* Submits again what the spec says, as `retry_of`, with other tasks if `tasks` is not 0. */
int submit_again(struct master *m, const struct auth_identity *who, job_id retry_of, uint32_t first, uint32_t step,
                 uint32_t tasks, job_id *job, struct err *err);

/* One job of somebody who asks over the bus. 1: known by its key, *job is it; 0: a new job. */
int submit_request(struct master *m, const struct auth_identity *who, struct bytes key, struct bytes json, job_id *job,
                   struct err *err);

/* One job of the entry `cron` for its time due_wall_ms, as `who`. *job is 0 if the entry skips what overlaps. */
int submit_cron(struct master *m, const struct auth_identity *who, struct bytes cron, int64_t due_wall_ms, struct bytes json, job_id *job,
                struct err *err);
/* Whether it may be submitted, as far as that can be told before; *user: whose it would be, valid in this turn. */
int submit_check(struct master *m, const struct auth_identity *who, struct bytes json, struct bytes *user, struct err *err);

/* --- master_jobs.c --- */
int master_spec(struct master *m, job_id job, struct job_spec *spec, struct err *err); /* borrowed from m->submit */
void resources_json(struct master *m, struct json_out *j, const struct resources *r); /* members */
void json_seconds(struct json_out *j, const char *key, int64_t ms); /* 0: null */
void counts_json(struct json_out *j, const char *key, const uint32_t counts[JOB_STATES]);
void job_json(struct master *m, struct json_out *j, const struct job_view *v); /* members of the short form */
struct record_words master_words(struct master *m);       /* for wire_record_json; may read the store */
const char *node_name_text(void *arg, uint32_t node);     /* arg: struct master */
int job_ref_parse(struct exchange *x, job_id *job, uint32_t *task, struct job_view *view, struct err *err);
struct estimate_view;
struct json_out;
void estimate_json(struct master *m, struct json_out *j, const struct estimate_view *v); /* into an object that is open */

/* --- master_usage.c --- */
void sizing_learn(struct master *m, const struct record *r); /* of each record */
/* What a job of this name is to ask for; start_bytes, or a default if that is 0, while too few runs are known (*runs is 0 then). Never more than
 * the largest node has. */
uint64_t sizing_memory(struct master *m, struct bytes user, struct bytes name, uint64_t start_bytes, uint32_t *runs);
void sizing_json(struct master *m, struct json_out *j, const char *key, const struct job_view *v); /* null: nothing is known */
void usage_heard(struct master *m, uint64_t session, const struct message *msg);
void note_heard(struct master *m, uint64_t session, const struct message *msg);
void usage_learn(struct master *m, const struct effects *fx); /* attempts that ended: their series goes to the store */

/* --- master_scan.c: walks over many jobs in slices --- */
bool scans_run(struct master *m);                         /* true: there is more to do at once */
void scans_committed(struct master *m, const struct gate_batch *batch);
int64_t scans_due_ms(struct master *m);                   /* when the next wait times out */
void scan_gone(struct exchange *x);
void scans_free(struct master *m);

/* --- master_limits.c: queues, users, accounts, tokens --- */
void party_settings_json(struct master *m, struct json_out *j, enum party_kind kind, struct bytes name); /* members */

/* --- master_logs.c --- */
void logs_chunk(struct master *m, uint64_t session, const struct message *chunk);
void logs_session_gone(struct master *m, uint64_t session);
void logs_committed(struct master *m, const struct gate_batch *batch);
int64_t logs_due_ms(struct master *m);
void logs_run(struct master *m);
void log_gone(struct exchange *x);

/* --- master_events.c --- */
void events_init(struct master *m);
void events_publish(struct master *m, const struct gate_batch *batch);
void sse_gone(struct exchange *x);
void sse_tell_health(struct master *m);                   /* if it is not what was told last */
const char *master_store_word(const struct master *m);    /* ok, low, full, starting */
bool sse_run(struct master *m);                           /* true: there is more to do at once */

/* --- master_metrics.c --- */
void metrics_count(struct master *m, const struct gate_batch *batch); /* it is durable */
void metrics_starts(struct master *m, const struct effects *fx);
void metrics_refresh(struct master *m);                   /* before the text is made */

/* --- master_overview.c --- */
void records_learn(struct master *m, const struct record *r); /* of each record, when it is committed */
void records_remember(struct master *m);                  /* at start: what the end of the journal tells */

/* --- master_session.c: browsers --- */
const struct auth_identity *session_who(struct master *m, const struct http_request *r); /* NULL: not signed in */
bool session_still(struct master *m, const struct http_request *r); /* the same, without counting as use */
/* A request of a browser that changes something: was it made by our own page? */
int session_own_page(const struct http_request *r, struct err *err);
void sessions_load(struct master *m);
void sessions_save(struct master *m, bool now);           /* when there is something new to keep */

/* --- snapshot.c: snapshots of the state, made in the background --- */
void snapshots_begin(struct master *m, uint64_t last_seq); /* of the one that is there; 0: none */
void snapshots_run(struct master *m);                      /* now and then: makes one if it is time */
void snapshots_end(struct master *m);                      /* gives up the one under way */
/* --- notify.c: URLs that are told of the end of jobs --- */
struct notify *notify_new(void);
void notify_free(struct notify *n);
int notify_check(const struct master *m, struct bytes url, struct err *err); /* whether it may be called */
void notify_look(struct master *m);                       /* the journal has been replayed */
void notify_committed(struct master *m, const struct gate_batch *batch);
void notify_run(struct master *m);
int64_t notify_due_ms(const struct master *m);
void notify_metrics(const struct master *m);

/* --- master_cron.c: jobs that come again --- */
struct crons *crons_new(void);
void crons_free(struct crons *c);
void crons_run(struct master *m);
int64_t crons_due_ms(const struct master *m);

/* --- master_whatif.c --- */
void whatif_end(struct master *m);                        /* gives up the one under way */

/* --- backup.c --- */
void backup_end(struct master *m);                        /* waits for the one under way */

/* --- master_bus.c --- */
void master_bus_events(struct master *m, struct bus_events *events);
void master_told(struct master *m, const struct gate_batch *batch); /* committed: whoever listens on the bus */
void request_answer(struct master *m, uint64_t request);                /* the gate opened */
void requests_free(struct master *m);
void master_transport(struct master *m, bool up); /* the brain does not hold silence against workers while it is down */
struct outbound *outbound_new(void);
void outbound_free(struct outbound *o);
void outbound_add(struct outbound *o, const struct send *send);
void outbound_flush(struct master *m);
void master_send(struct master *m, uint64_t session,
                 const struct message *message); /* at once: not for what rests on records */

/* --- handlers, by schema/api.def --- */
#define ROUTE(method, pattern, role, handler, body, query, help) void api_##handler(struct exchange *x);
#include "api.def"
#undef ROUTE

#endif

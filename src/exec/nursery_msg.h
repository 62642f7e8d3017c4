/* nursery_msg.h: what a worker and its nursery say to each other, and its bytes.
 *
 * One packet of the SOCK_SEQPACKET socket <state>/nursery.sock holds a head and many messages. Numbers are in the byte
 * order of the machine; every message begins at a multiple of 8. A reader checks everything and trusts nothing: a
 * packet that does not decode to its last byte is refused whole. */
#ifndef ROTA_EXEC_NURSERY_MSG_H
#define ROTA_EXEC_NURSERY_MSG_H

#include <stddef.h>

#include "base/buf.h"
#include "core/model/message.h"
#include "exec/exit_record.h"

#define NURSERY_VERSION 4u
#define NURSERY_PACKET_BYTES_MAX 200704u  /* below the kernel's default socket buffer, which bounds one packet */
#define NURSERY_REQUEST_BYTES_MAX 196608u /* one request */
#define NURSERY_STRINGS_MAX 32768u        /* strings of one spawn request */
#define NURSERY_SLOTS_MAX 8192u           /* attempts that run at once */
#define NURSERY_ATTEMPTS_MAX 16384u       /* attempts known at once: those, and ended ones not removed yet */
#define NURSERY_LINE_BYTES_MAX 32768u     /* one request that waits in line; EXEC_LINE_MAX of them fit */

enum nursery_verb {
    NURSERY_HELLO = 1,
    NURSERY_SPAWN,
    NURSERY_TERM,
    NURSERY_KILL,
    NURSERY_REMOVE,
    NURSERY_SHUTDOWN,
    NURSERY_CALL,     /* start it now if it is still in line */
    NURSERY_WITHDRAW, /* take it out of line if it is still there */
    NURSERY_LEASE,    /* attempts that may not overlap have until then */
};

/* Optional strings of a SPAWN. GROUPS, CPUS: numbers with commas between them. */
enum {
    NURSERY_WORKDIR = 1,
    NURSERY_STDIN = 2,
    NURSERY_STDOUT = 4,
    NURSERY_STDERR = 8,
    NURSERY_GROUPS = 16, /* supplementary groups; only with run_as */
    NURSERY_CPUS = 32,   /* it may run on these alone */
    NURSERY_PATHS = 63,
    NURSERY_PATHS_COUNT = 6
};

struct nursery_request {
    enum nursery_verb verb;
    struct attempt_ref ref;     /* not HELLO, SHUTDOWN, LEASE */
    uint32_t version;           /* HELLO */
    bool wants_vacated;         /* HELLO */
    uint64_t mem_bytes;         /* SPAWN: 0 is no limit */
    uint64_t output_bytes_max;  /* SPAWN: 0 is no cap */
    uint64_t file_bytes_max;    /* SPAWN: of any file it writes; 0 is no limit */
    uint32_t cpu_weight_milli;  /* SPAWN: its share when CPUs are short; 0: none of its own */
    uint32_t cpu_quota_milli;   /* SPAWN: never more than this; 0 is no limit */
    uint32_t pids_max;          /* SPAWN: processes and threads; 0 is no limit */
    bool run_as;                /* SPAWN: as uid and gid, with the groups of GROUPS; else as the nursery */
    uint32_t uid, gid;
    uint64_t place;             /* SPAWN: equal for equal needs */
    bool in_line;               /* SPAWN: wait until an attempt with the same `place` leaves it */
    bool overlap_never;         /* SPAWN: under the lease */
    int64_t lease_until_ms;     /* LEASE: CLOCK_BOOTTIME, > 0 */
    uint32_t argc, envc, paths; /* SPAWN: numbers of strings; which of NURSERY_PATHS follow them, in that order */
    struct bytes strings;       /* SPAWN: argv, env, paths, each ended by zero; borrowed */
};

/* Begins a packet of requests in an empty buffer. */
void nursery_packet_begin(struct buf *packet);
/* events_seen: how many events the worker has taken in: what they told about slots it now knows. */
void nursery_packet_seal(struct buf *packet, uint64_t events_seen);
void nursery_request_add(struct buf *packet, const struct nursery_request *r);
size_t nursery_request_bytes(const struct nursery_request *r);

/* Visits the requests of a packet. */
struct nursery_packet {
    const uint8_t *at, *end;
    uint64_t events_seen;
};
bool nursery_packet_open(struct nursery_packet *p, const uint8_t *data, size_t size);
/* 1: *out is the next one; 0: that was the last; -1: the packet is malformed. */
int nursery_packet_next(struct nursery_packet *p, struct nursery_request *out);
/* Points places[0 .. argc + envc + paths) at the strings. They were counted by nursery_packet_next. */
void nursery_request_strings(const struct nursery_request *r, char **places);

enum nursery_event_kind {
    NURSERY_WELCOME = 1, /* answer to HELLO: abilities, text: where its cgroups are */
    NURSERY_ATTEMPT,     /* one per attempt known */
    NURSERY_LISTED,      /* that were all */
    NURSERY_STARTED,
    NURSERY_VACATED, /* all its processes are gone, its output has its final name; its end follows when it is durable */
    NURSERY_ENDED
};
enum { NURSERY_CAN_KILL = 1, NURSERY_CAN_LIMIT_MEMORY = 2, NURSERY_CAN_LIMIT_CPUS = 4, NURSERY_CAN_LIMIT_PIDS = 8 }; /* WELCOME.abilities */
#define NURSERY_TEXT_BYTES 512

struct nursery_event {
    enum nursery_event_kind kind;
    struct attempt_ref ref;
    uint32_t abilities;            /* WELCOME */
    enum attempt_phase phase;      /* ATTEMPT */
    bool started;                  /* ATTEMPT, ENDED: its process existed */
    bool vacated;                  /* ATTEMPT: its slot's files are no longer its own */
    uint32_t slot, pid;            /* ATTEMPT, STARTED */
    uint32_t own_streams;          /* ATTEMPT, STARTED: bit per stream that goes to our log file */
    int64_t begun_ms;              /* ATTEMPT, STARTED: CLOCK_BOOTTIME */
    uint64_t output_bytes_max;     /* ATTEMPT, STARTED */
    struct attempt_ref passed_to;  /* VACATED: who has got its place; job 0: nobody */
    struct attempt_result result;  /* ATTEMPT of phase ENDED, ENDED */
    char text[NURSERY_TEXT_BYTES]; /* WELCOME, ATTEMPT, ENDED */
};
#define NURSERY_EVENT_BYTES_MAX (192u + NURSERY_TEXT_BYTES)

/* Writes one event; returns its bytes. A packet of events has no head. */
size_t nursery_event_encode(const struct nursery_event *e, uint8_t out[NURSERY_EVENT_BYTES_MAX]);
/* Reads the event at *at (before size) and moves *at behind it. False: malformed. */
bool nursery_event_decode(const uint8_t *data, size_t size, size_t *at, struct nursery_event *out);

#endif

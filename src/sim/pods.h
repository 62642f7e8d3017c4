/* pods.h: lists of nodes and of pods as CSV, in the columns of the openb traces (Alibaba, cluster-trace-gpu-v2023), and their
 * replay: each pod is placed once, in order, and never ends. What fits nowhere has failed.
 *
 * Nodes: sn, cpu_milli, memory_mib, gpu, model. Pods: name, cpu_milli, memory_mib, num_gpu, gpu_milli, and where there are
 * gpu_spec (models that will do, with | between them) and creation_time. Columns are found by name; others are left alone. */
#ifndef ROTA_SIM_PODS_H
#define ROTA_SIM_PODS_H

#include "base/err.h"
#include "core/policy/gpus.h"

struct pod {
    int64_t at_s;
    uint32_t need;      /* in struct pods */
    char *name;
};

struct pods {
    struct gpus_node *nodes;
    size_t nodes_count, nodes_cap;
    struct gpus_need *needs; /* different ones */
    size_t needs_count, needs_cap;
    struct pod *pods;        /* by (creation_time, name); as they stand in the file if none has a time */
    size_t pods_count, pods_cap;
    char *models[64];
    size_t models_count;
};

int pods_read(struct pods *out, const char *nodes_path, const char *pods_path, struct err *err); /* .gz or not */
void pods_fini(struct pods *p);

/* ARRIVAL: the list in its order, once. INFLATE: shuffled, then pods drawn from it with replacement and added until the next would
 * make them ask for more than `ratio` of all GPUs; a list that asks for more already loses pods at random (the protocol of
 * Weng and others, ATC'23). */
enum pods_mode { PODS_ARRIVAL, PODS_INFLATE };

struct pods_result {
    uint64_t pods, failed, failed_gpu;   /* failed_gpu: of those, how many wanted GPUs */
    double gpu_end, cpu_end, mem_end;    /* parts of all that are allocated at the end */
    double gpu_at_full;                  /* GPUs allocated when as many as there are were asked for; -1: never */
    double gpu_first_failed;             /* ... when the first failed; -1: none did */
};
/* The same seed gives the same result. `progress` may be NULL. */
void pods_replay(const struct pods *p, enum gpus_policy policy, enum pods_mode mode, double ratio, uint64_t seed, struct pods_result *out,
                 void (*progress)(void *arg, size_t done, size_t all), void *arg);

#endif

/* node_report.h: what workers told of their machines last, by node. In memory only: a new master is told at once. */
#ifndef ROTA_MASTER_NODE_REPORT_H
#define ROTA_MASTER_NODE_REPORT_H

#include "core/model/message.h"

struct node_report {
    char *enforces; /* NULL: nothing was told yet */
    uint64_t disk_bytes, disk_free_bytes;
    uint32_t pressure[PRESSURES];
    bool has_pressure;
    uint32_t gpus; /* that tell of their use; 0: it is not known */
    uint64_t gpu_used_milli, gpu_mem_used_bytes, gpu_mem_bytes;
};

struct node_reports;
struct node_reports *node_reports_new(void);
void node_reports_free(struct node_reports *r);
void node_reports_note(struct node_reports *r, node_id node, const struct message *told);
const struct node_report *node_reports_of(const struct node_reports *r, node_id node); /* NULL: nothing was told yet */

#endif

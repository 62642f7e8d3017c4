#include "master/node_report.h"

#include "base/mem.h"

struct node_reports {
    struct node_report *list; /* by number of the node, from 1 */
    size_t count, cap;
};

struct node_reports *node_reports_new(void)
{
    return mem_zero(1, sizeof(struct node_reports));
}

void node_reports_free(struct node_reports *r)
{
    for (size_t i = 0; r && i < r->count; i++)
        free(r->list[i].enforces);
    if (r)
        free(r->list);
    free(r);
}

void node_reports_note(struct node_reports *r, node_id node, const struct message *told)
{
    r->list = mem_grow(r->list, &r->cap, node.n + 1, sizeof *r->list);
    while (r->count <= node.n)
        r->list[r->count++] = (struct node_report){ 0 };
    struct node_report *report = &r->list[node.n];
    struct buf text = BUF_INIT;
    free(report->enforces);
    buf_add(&text, told->node_report.enforces.data, told->node_report.enforces.size);
    buf_add(&text, "", 0);
    report->enforces = text.data ? buf_take(&text) : mem_str("");
    report->disk_bytes = told->node_report.disk_bytes;
    report->disk_free_bytes = told->node_report.disk_free_bytes;
    report->gpus = told->node_report.gpus;
    report->gpu_used_milli = told->node_report.gpu_used_milli;
    report->gpu_mem_used_bytes = told->node_report.gpu_mem_used_bytes;
    report->gpu_mem_bytes = told->node_report.gpu_mem_bytes;
    report->has_pressure = told->node_report.has_pressure;
    memcpy(report->pressure, told->node_report.pressure, sizeof report->pressure);
}

const struct node_report *node_reports_of(const struct node_reports *r, node_id node)
{
    return node.n < r->count && r->list[node.n].enforces ? &r->list[node.n] : NULL;
}

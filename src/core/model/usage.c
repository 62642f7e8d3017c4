#include "core/model/usage.h"

#include "base/mem.h"

#define USAGE_FORM 1u /* of the encoding */
#define TIME_MAX ((int64_t)1 << 50)

void usage_series_fini(struct usage_series *s)
{
    free(s->points);
    *s = USAGE_SERIES_INIT;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* What `to` and the later `from` tell together. */
static void merge(struct usage_point *to, const struct usage_point *from)
{
    uint64_t most = larger(to->mem_max_bytes, from->mem_max_bytes);
    *to = *from;
    to->mem_max_bytes = most;
}

static void halve(struct usage_series *s)
{
    size_t kept = 0;
    for (size_t i = 0; i < s->count; i += 2) {
        struct usage_point p = s->points[i];
        if (i + 1 < s->count)
            merge(&p, &s->points[i + 1]);
        s->points[kept++] = p;
    }
    s->count = kept;
    s->step_ms *= 2;
}

void usage_series_add(struct usage_series *s, const struct usage_point *reading)
{
    struct usage_point p = *reading;
    struct usage_point *last = s->count ? &s->points[s->count - 1] : NULL;
    if (p.at_ms < 0 || p.at_ms > TIME_MAX || (last && p.at_ms <= last->at_ms))
        return;
    p.mem_max_bytes = larger(p.mem_max_bytes, p.mem_bytes);
    if (last) {
        p.cpu_ms = larger(p.cpu_ms, last->cpu_ms);
        p.read_bytes = larger(p.read_bytes, last->read_bytes);
        p.written_bytes = larger(p.written_bytes, last->written_bytes);
    }
    int64_t begins_ms = s->count > 1 ? s->points[s->count - 2].at_ms : 0;
    if (last && p.at_ms - begins_ms <= s->step_ms) {
        merge(last, &p);
        return;
    }
    if (s->count == USAGE_POINTS_MAX)
        halve(s);
    s->points = mem_grow(s->points, &s->cap, s->count + 1, sizeof *s->points);
    s->points[s->count++] = p;
}

uint64_t usage_series_peak(const struct usage_series *s)
{
    uint64_t peak = 0;
    for (size_t i = 0; i < s->count; i++)
        peak = larger(peak, s->points[i].mem_max_bytes);
    return peak;
}

void usage_encode(struct buf *out, const struct usage_point *points, size_t count)
{
    struct usage_point last = { 0 };
    buf_varint(out, USAGE_FORM);
    buf_varint(out, count);
    for (size_t i = 0; i < count; i++) {
        const struct usage_point *p = &points[i];
        buf_varint(out, (uint64_t)(p->at_ms - last.at_ms));
        buf_varint(out, p->cpu_ms - last.cpu_ms);
        buf_varint(out, p->mem_bytes);
        buf_varint(out, p->mem_max_bytes - p->mem_bytes);
        buf_varint(out, p->read_bytes - last.read_bytes);
        buf_varint(out, p->written_bytes - last.written_bytes);
        buf_varint(out, p->processes);
        last = *p;
    }
}

static bool grow(uint64_t *sum, uint64_t more, uint64_t max)
{
    if (more > max - *sum)
        return false;
    *sum += more;
    return true;
}

bool usage_decode(struct bytes in, struct usage_point out[USAGE_POINTS_MAX], size_t *count)
{
    const uint8_t *at = (const uint8_t *)in.data, *end = at + in.size;
    uint64_t form, points, v[7], at_ms = 0, cpu_ms = 0, read_bytes = 0, written_bytes = 0;
    if (!in.size || !varint_read(&at, end, &form) || form != USAGE_FORM || !varint_read(&at, end, &points) ||
        points > USAGE_POINTS_MAX)
        return false;
    for (uint64_t i = 0; i < points; i++) {
        for (int field = 0; field < 7; field++)
            if (!varint_read(&at, end, &v[field]))
                return false;
        uint64_t most = v[2];
        if ((i && !v[0]) || !grow(&at_ms, v[0], (uint64_t)TIME_MAX) || !grow(&cpu_ms, v[1], UINT64_MAX) ||
            !grow(&most, v[3], UINT64_MAX) || !grow(&read_bytes, v[4], UINT64_MAX) ||
            !grow(&written_bytes, v[5], UINT64_MAX) || v[6] > UINT32_MAX)
            return false;
        out[i] = (struct usage_point){ (int64_t)at_ms, cpu_ms, v[2], most, read_bytes, written_bytes, (uint32_t)v[6] };
    }
    *count = (size_t)points;
    return at == end;
}

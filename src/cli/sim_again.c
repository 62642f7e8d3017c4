#include "cli/sim_again.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/parse.h"
#include "cli/term.h"
#include "sim/journal_again.h"
#include "wire/json_out.h"

/* One word of what may be a list elsewhere; "all" and "both" are none. -1: said. */
static int choice(const struct args *args, const char *option, const char *words, int fallback)
{
    const char *text = args_text(args, option, NULL);
    int place = text ? parse_choice(bytes_str(text), words) : fallback;
    if (place < 0)
        say("--%s: with --again name the one that the master used: %s", option, words);
    return place;
}

static void tell_json(const struct again_result *r)
{
    autobuf struct buf out = BUF_INIT;
    struct json_out j = json_out_to(&out);
    json_open(&j, NULL, '{');
    json_u64(&j, "records", r->records);
    json_u64(&j, "masters", r->masters);
    json_u64(&j, "starts", r->starts);
    json_u64(&j, "same", r->same);
    json_u64(&j, "ahead", r->ahead);
    json_u64(&j, "ahead_same", r->ahead_same);
    json_close(&j, '}');
    buf_char(&out, '\n');
    out_flush(&out);
}

int sim_again(const struct args *args, const char *state)
{
    struct sched_config config;
    struct again_result r;
    struct err err;
    sched_config_default(&config);
    int order = choice(args, "policy", ORDER_WORDS, (int)config.order), backfill = choice(args, "backfill", BACKFILL_WORDS, (int)config.backfill),
        place = choice(args, "place", "binpack|spread", (int)config.place);
    if (order < 0 || backfill < 0 || place < 0)
        return 2;
    config.order = (enum order_kind)order;
    config.backfill = (enum sched_backfill)backfill;
    config.place = (enum sched_place)place;
    int rc = journal_again(state, &config, &r, &err);
    if (rc == 0 && args_has(args, "json"))
        tell_json(&r);
    else if (rc == 0)
        say("%" PRIu64 " starts decided again, %" PRIu64 " just as they were; of %" PRIu64 " that were sent ahead, %" PRIu64, r.starts, r.same, r.ahead,
            r.ahead_same);
    if (rc == 0 && r.told.size)
        fwrite(r.told.data, 1, r.told.size, args_has(args, "json") ? stderr : stdout);
    bool differs = r.same != r.starts;
    buf_fini(&r.told);
    return rc < 0 ? say_error(&err) : differs;
}

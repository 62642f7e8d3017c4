#include "cli/job_json.h"
#include "cli/verb.h"

static int run_dashboard(const struct args *args)
{
    int code = 0;
    autoclient struct client *c = verb_client(args, &code);
    autojson json_t *ticket = NULL;
    if (!c || (code = verb_json(c, args, "POST", "/v1/session/ticket", bytes_str("{}"), &ticket)) || !ticket)
        return code;
    autobuf struct buf out = BUF_INIT;
    buf_printf(&out, "%s/#ticket=%s\n", client_url(c), json_text(ticket, "ticket", ""));
    out_flush(&out);
    say("this address signs in one browser, within %lld minutes",
        (long long)(json_number_value(json_object_get(ticket, "expires_in_s")) / 60));
    return 0;
}
const struct command command_dashboard = {
    .name = "dashboard",
    .group = "Cluster",
    .operands = "",
    .operands_min = 0,
    .operands_max = 0,
    .flags = COMMAND_CLIENT,
    .summary = "print an address that opens the dashboard, signed in",
    .text = "The address holds a ticket instead of the token: it works once, and for ten minutes. Without it the page "
            "at the master's address asks for the token.",
    .examples = "rota dashboard\nxdg-open \"$(rota dashboard)\"",
    .run = run_dashboard,
};

#include "cli/test.h"

#include "cli/commands.h"
#include "cli/help.h"
#include "cli/job_json.h"

/* Reads a line: its words, ending with NULL, the verb first. */
static int read_line(struct args *args, struct err *err, char **words)
{
    int count = 0;
    while (words[count])
        count++;
    const struct command *c = command_named(words[0]);
    assert_non_null(c);
    *err = (struct err){ 0 };
    return args_parse(args, c, count, words, err);
}
#define LINE(...) read_line(&args, &err, (char *[]){ __VA_ARGS__, NULL })

static void each_kind_of_value_is_read(void **state)
{
    (void)state;
    struct args args;
    struct err err;
    assert_int_equal(LINE("submit", "--cpus", "0.5", "--mem=1.5G", "--time", "2h30m", "--priority", "-7", "--retries",
                          "3", "--overlap", "never", "--env", "A=1", "--env", "B=x=y", "--hold", "--", "echo", "--name",
                          "-x"),
                     0);
    assert_int_equal(args_u64(&args, "cpus", 0), 500);
    assert_int_equal(args_u64(&args, "mem", 0), 1536ull << 20);
    assert_int_equal(args_i64(&args, "time", 0), 9000000);
    assert_int_equal(args_i64(&args, "priority", 0), -7);
    assert_int_equal(args_u64(&args, "retries", 0), 3);
    assert_string_equal(args_text(&args, "overlap", ""), "never");
    assert_true(args_has(&args, "hold"));
    assert_false(args_has(&args, "name"));
    const struct given *first = args_next(&args, "env", NULL);
    assert_string_equal(first->text, "A=1");
    assert_string_equal(args_next(&args, "env", first)->text, "B=x=y");
    assert_null(args_next(&args, "env", args_next(&args, "env", first)));
    assert_true(args.dashes);
    assert_int_equal(args.operands_count, 3);
    assert_string_equal(args.operands[1], "--name");
    args_fini(&args);
}

static void options_and_operands_may_mix_but_not_behind_a_command(void **state)
{
    (void)state;
    struct args args;
    struct err err;
    assert_int_equal(LINE("wait", "7", "--timeout", "5s", "9-12", "--json", "a"), 0);
    assert_int_equal(args.operands_count, 3);
    assert_string_equal(args.operands[2], "a");
    assert_int_equal(args_i64(&args, "timeout", 0), 5000);
    assert_true(args_has(&args, "json"));
    args_fini(&args);
    /* The command's own options are the command's. */
    assert_int_equal(LINE("run", "--cpus", "2", "make", "-j4", "--json"), 0);
    assert_int_equal(args.operands_count, 3);
    assert_false(args_has(&args, "json"));
    args_fini(&args);
    assert_int_equal(LINE("logs", "-f", "--", "-7"), 0);
    assert_true(args_has(&args, "follow"));
    assert_string_equal(args.operands[0], "-7");
    args_fini(&args);
}

static void refuse(struct args *args, struct err *err, char **words, const char *field, const char *text,
                   const char *remedy)
{
    int rc = read_line(args, err, words);
    args_fini(args);
    if (rc != -ERR_INVALID)
        fail_msg("%s %s was taken", words[0], words[1]);
    if (strcmp(err->field, field) != 0 || !strstr(err->text, text) || !strstr(err->remedy, remedy))
        fail_msg("%s %s: got \"%s: %s; %s\"", words[0], words[1], err->field, err->text, err->remedy);
}
#define REFUSE(field, text, remedy, ...) refuse(&args, &err, (char *[]){ __VA_ARGS__, NULL }, field, text, remedy)

static void mistakes_are_named_with_their_option_and_a_way_out(void **state)
{
    (void)state;
    struct args args;
    struct err err;
    REFUSE("--mem", "\"4Q\" is not a size", "write 4G or 512M", "submit", "--mem", "4Q", "--", "true");
    REFUSE("--time", "soon", "", "submit", "--time", "soon", "--", "true");
    REFUSE("--retries", "", "", "submit", "--retries", "-1", "--", "true");
    REFUSE("--retries", "1001", "", "submit", "--retries", "1001", "--", "true");
    REFUSE("--overlap", "\"maybe\"", "allow or never", "submit", "--overlap", "maybe", "--", "true");
    REFUSE("--env", "=x", "NAME=VALUE", "submit", "--env", "=x", "--", "true");
    REFUSE("--array", "1-3,7", "submit one array", "submit", "--array", "1-3,7", "--", "true");
    REFUSE("--backoff", "10s..1s", "shorter one first", "submit", "--backoff", "10s..1s", "--", "true");
    REFUSE("--name", "not a name", "control", "submit", "--name", "a\nb", "--", "true");
    REFUSE("--mem", "given twice", "once", "submit", "--mem", "1G", "--mem", "2G", "--", "true");
    REFUSE("--mem", "needs a value", "", "submit", "--mem");
    REFUSE("--json", "takes no value", "", "ls", "--json=yes");
    REFUSE("", "--memory is not an option of rota submit", "--mem?", "submit", "--memory", "1G");
    REFUSE("", "--prioritty", "--priority?", "submit", "--prioritty", "1");
    REFUSE("", "--zzzzzzzz", "lists them", "submit", "--zzzzzzzz");
    REFUSE("", "-x is not an option", "lists them", "ls", "-x");
    REFUSE("wait", "missing", "SELECTOR", "wait");
    REFUSE("version", "\"please\" is one too many", "", "version", "please");
}

static void abbreviations_are_refused(void **state)
{
    (void)state;
    struct args args;
    struct err err;
    REFUSE("", "--prio is not an option", "--priority?", "submit", "--prio", "1", "--", "true");
    REFUSE("", "--progres is not an option", "--progress?", "submit", "--progres=plain", "--", "true");
    REFUSE("", "--jso is not an option", "--json?", "ls", "--jso");
}

static void help_ends_the_reading(void **state)
{
    (void)state;
    struct args args;
    struct err err;
    assert_int_equal(LINE("wait", "--help"), 0);
    assert_true(args_has(&args, "help"));
    args_fini(&args);
}

static void optional_arguments_need_the_equals_sign(void **state)
{
    (void)state;
    struct args args;
    struct err err;
    assert_int_equal(LINE("wait", "--progress", "plain"), 0);
    assert_null(args_find(&args, "progress")->text);
    assert_string_equal(args.operands[0], "plain");
    args_fini(&args);
    assert_int_equal(LINE("wait", "--progress=plain", "7"), 0);
    assert_string_equal(args_text(&args, "progress", ""), "plain");
    args_fini(&args);
}

/* --- the tables --- */

static void every_command_and_option_is_well_described(void **state)
{
    (void)state;
    for (size_t i = 0; commands[i]; i++) {
        const struct command *c = commands[i];
        print_message("# %s\n", c->name);
        assert_ptr_equal(command_named(c->name), c);
        assert_non_null(c->run);
        assert_non_null(c->group);
        assert_true(c->operands_max < 0 || c->operands_min <= c->operands_max);
        assert_true(c->summary[0] && c->summary[strlen(c->summary) - 1] != '.');
        if (!(c->flags & COMMAND_HIDDEN))
            assert_non_null(c->examples);
        for (size_t k = i + 1; commands[k]; k++)
            assert_string_not_equal(commands[k]->name, c->name);
        const struct option_row *row, *other;
        for (size_t k = 0; (row = command_option(c, k)); k++) {
            assert_true(row->help && row->help[0] && row->help[strlen(row->help) - 1] != '.');
            assert_true(strspn(row->name, "abcdefghijklmnopqrstuvwxyz-") == strlen(row->name));
            assert_int_equal(row->kind == OPTION_FLAG, row->argument == NULL);
            assert_int_equal(row->kind == OPTION_CHOICE, row->choices != NULL);
            assert_true(row->min <= row->max);
            for (size_t m = k + 1; (other = command_option(c, m)); m++) {
                assert_string_not_equal(row->name, other->name);
                assert_true(!row->letter || row->letter != other->letter);
            }
        }
    }
}

static void hidden_commands_stand_behind_the_others(void **state)
{
    (void)state;
    bool hidden = false;
    for (size_t i = 0; commands[i]; i++) {
        assert_false(hidden && !(commands[i]->flags & COMMAND_HIDDEN));
        hidden = commands[i]->flags & COMMAND_HIDDEN;
    }
}

static void no_line_of_help_is_longer_than_a_hundred_columns(void **state)
{
    (void)state;
    for (size_t i = 0; commands[i]; i++) {
        autobuf struct buf out = BUF_INIT;
        help_command(&out, commands[i]);
        for (char *line = out.data; *line;) {
            size_t size = strcspn(line, "\n");
            if (size > HELP_WIDTH || (size && line[size - 1] == ' '))
                fail_msg("help of %s: \"%.*s\"", commands[i]->name, (int)size, line);
            line += size + (line[size] == '\n');
        }
    }
}

/* --- jobs --- */

static void job_is(char **words, const char *json)
{
    struct args args;
    struct err err;
    autobuf struct buf out = BUF_INIT;
    assert_int_equal(read_line(&args, &err, words), 0);
    if (job_json_from(&args, &out, &err) < 0)
        fail_msg("%s: %s", err.field, err.text);
    args_fini(&args);
    assert_string_equal(out.data, json);
}
#define JOB(json, ...) job_is((char *[]){ "submit", __VA_ARGS__, NULL }, json)

static void options_become_the_keys_of_a_job(void **state)
{
    (void)state;
    JOB("{\"command\":[\"true\"]}", "--", "true");
    JOB("{\"command\":[\"echo\",\"{}\",\"\",\"a\\\"b\"],\"name\":\"n\",\"array\":\"1-10%5\"}", "--array", "1-10%5",
        "--name", "n", "--", "echo", "{}", "", "a\"b");
    JOB("{\"command\":[\"t\"],\"cpus\":0.5,\"gpus\":2,\"mem_bytes\":1610612736}", "--cpus", "0.5", "--gpus", "2",
        "--mem", "1.5G", "t");
    JOB("{\"command\":[\"t\"],\"env\":{\"A\":\"1\",\"B\":\"x=y\"},\"labels\":{\"k\":\"\"}}", "--env", "A=1", "--label",
        "k=", "--env", "B=x=y", "t");
    JOB("{\"command\":[\"t\"],\"after\":[{\"job\":7},{\"job\":9},{\"job\":3,\"when\":\"any\"}]}", "--after", "7,9",
        "--after", "3:any", "t");
    JOB("{\"command\":[\"t\"],\"after\":[{\"job\":5},{\"job\":6},{\"job\":7}]}", "--after", "5-7:ok", "t");
    JOB("{\"command\":[\"t\"],\"time_limit_s\":90,\"grace_s\":0.25,\"retries\":3,\"backoff_s\":10,\"backoff_max_s\":"
        "300}",
        "--time", "90s", "--grace", "250ms", "--retries", "3", "--backoff", "10s..5min", "t");
    JOB("{\"command\":[\"t\"],\"queue\":\"q\",\"overlap\":\"never\",\"priority\":-5,\"hold\":true}", "--queue", "q",
        "--overlap", "never", "--priority", "-5", "--hold", "t");
    JOB("{\"command\":[\"t\"],\"workdir\":\"/w\",\"stdout\":\"/o\"}", "--workdir", "/w", "--stdout", "/o", "t");
    JOB("{\"command\":[\"t\"],\"begin\":\"2026-11-23T10:00:00.000Z\",\"deadline\":\"2026-11-24T00:00:00.500Z\"}",
        "--begin", "2026-11-23T10:00:00Z", "--deadline", "2026-11-24T00:00:00.5Z", "t");
    JOB("{\"command\":[\"t\"],\"where\":\"zone=a & ssd\"}", "--where", "zone=a & ssd", "t");
    JOB("{\"command\":[\"t\"],\"resources\":{\"lic\":3}}", "--resource", "lic=3", "t");
    JOB("{\"command\":[\"t\"],\"image\":\"debian:12\",\"pull\":\"always\"}", "--image", "debian:12", "--pull", "always", "t");
}

static void job_refused(char **words, const char *field)
{
    struct args args;
    struct err err;
    autobuf struct buf out = BUF_INIT;
    assert_int_equal(read_line(&args, &err, words), 0);
    assert_int_equal(job_json_from(&args, &out, &err), -ERR_INVALID);
    args_fini(&args);
    assert_string_equal(err.field, field);
}
#define NO_JOB(field, ...) job_refused((char *[]){ "submit", __VA_ARGS__, NULL }, field)

static void jobs_that_cannot_be_are_refused_here(void **state)
{
    (void)state;
    NO_JOB("--after", "--after", "seven", "t");
    NO_JOB("--after", "--after", "7:soon", "t");
    NO_JOB("--after", "--after", "9-7", "t");
    NO_JOB("--after", "--after", "1-5000", "t");
    NO_JOB("--resource lic", "--resource", "lic=many", "t");
    NO_JOB("--spread", "--spread", "zone", "t");
}

/* --- completion --- */

static enum complete_kind complete(struct buf *out, struct bytes *prefix, char **words)
{
    size_t count = 0;
    while (words[count])
        count++;
    buf_clear(out);
    buf_str(out, "");
    return help_complete(out, words, count, prefix);
}
#define COMPLETE(...) complete(&out, &prefix, (char *[]){ __VA_ARGS__, NULL })

static void completion_knows_verbs_options_values_and_files(void **state)
{
    (void)state;
    autobuf struct buf out = BUF_INIT;
    struct bytes prefix;
    assert_int_equal(COMPLETE("sub"), COMPLETE_WORDS);
    assert_true(strncmp(out.data, "submit\t", 7) == 0 && !strchr(strchr(out.data, '\n') + 1, '\n'));
    assert_int_equal(COMPLETE("__"), COMPLETE_WORDS);
    assert_int_equal(out.size, 0);
    assert_int_equal(COMPLETE("submit", "--pri"), COMPLETE_WORDS);
    assert_true(strncmp(out.data, "--priority\t", 11) == 0);
    assert_int_equal(COMPLETE("ls", "--state", "ru"), COMPLETE_WORDS);
    assert_true(strncmp(out.data, "running\t", 8) == 0);
    assert_int_equal(COMPLETE("ls", "--state=ru"), COMPLETE_WORDS);
    assert_true(strncmp(out.data, "--state=running\t", 16) == 0);
    assert_int_equal(COMPLETE("submit", "-f", "job"), COMPLETE_FILES);
    assert_int_equal(COMPLETE("up", "--state", "/t"), COMPLETE_DIRS);
    assert_int_equal(COMPLETE("submit", "--mem", ""), COMPLETE_WORDS);
    assert_int_equal(out.size, 0);
    assert_int_equal(COMPLETE("submit", "--", "ec"), COMPLETE_COMMAND);
    assert_int_equal(COMPLETE("submit", "--", "echo", "f"), COMPLETE_FILES);
    assert_int_equal(COMPLETE("submit", "echo", "--pri"), COMPLETE_FILES);
    assert_int_equal(COMPLETE("cancel", "7"), COMPLETE_JOBS);
    assert_int_equal(COMPLETE("drain", "w"), COMPLETE_NODES);
    assert_int_equal(COMPLETE("help", "can"), COMPLETE_WORDS);
    assert_true(strncmp(out.data, "cancel\t", 7) == 0);
    assert_int_equal(COMPLETE("completion", "z"), COMPLETE_WORDS);
    assert_true(strncmp(out.data, "zsh\t", 4) == 0);
    assert_int_equal(COMPLETE("nosuch", "x"), COMPLETE_WORDS);
    assert_int_equal(out.size, 0);
}

static void mistyped_verbs_find_the_one_that_was_meant(void **state)
{
    (void)state;
    assert_string_equal(help_nearest_command("submti"), "submit");
    assert_string_equal(help_nearest_command("cancle"), "cancel");
    assert_string_equal(help_nearest_command("node"), "nodes");
    assert_null(help_nearest_command("frobnicate"));
    assert_null(help_nearest_command("__mna"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind_of_value_is_read),
        cmocka_unit_test(options_and_operands_may_mix_but_not_behind_a_command),
        cmocka_unit_test(mistakes_are_named_with_their_option_and_a_way_out),
        cmocka_unit_test(abbreviations_are_refused),
        cmocka_unit_test(help_ends_the_reading),
        cmocka_unit_test(optional_arguments_need_the_equals_sign),
        cmocka_unit_test(every_command_and_option_is_well_described),
        cmocka_unit_test(hidden_commands_stand_behind_the_others),
        cmocka_unit_test(no_line_of_help_is_longer_than_a_hundred_columns),
        cmocka_unit_test(options_become_the_keys_of_a_job),
        cmocka_unit_test(jobs_that_cannot_be_are_refused_here),
        cmocka_unit_test(completion_knows_verbs_options_values_and_files),
        cmocka_unit_test(mistyped_verbs_find_the_one_that_was_meant),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

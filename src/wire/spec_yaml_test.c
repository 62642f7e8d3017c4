#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/prng.h"
#include "wire/spec.h"

static void assert_jobs(const char *yaml, const char *expected)
{
    autobuf struct buf out = BUF_INIT, faults = BUF_INIT;
    struct err e = { .code = ERR_OK };
    int rc = spec_from_yaml("j.yaml", bytes_str(yaml), &out, &faults, &e);
    if (rc < 0)
        print_message("# %s\n# %s", e.text, faults.data ? faults.data : "");
    assert_int_equal(rc, 0);
    assert_int_equal(faults.size, 0);
    assert_string_equal(out.data, expected);
}

/* `expected`: the start of each line of faults, "LINE:COLUMN: text", separated by newlines, all of them. */
static void assert_faults_of(struct bytes yaml, const char *expected)
{
    autobuf struct buf out = BUF_INIT, faults = BUF_INIT;
    struct err e = { .code = ERR_OK };
    buf_str(&out, "before\n");
    assert_int_equal(spec_from_yaml("j.yaml", yaml, &out, &faults, &e), -ERR_INVALID);
    assert_string_equal(out.data, "before\n"); /* untouched */
    const char *line = faults.data;
    for (const char *want = expected; *want;) {
        size_t size = strcspn(want, "\n");
        if (!*line || strncmp(line, "j.yaml:", 7) != 0 || strncmp(line + 7, want, size) != 0) {
            print_message("# wanted %.*s\n# in: %s", (int)size, want, faults.data);
            fail();
        }
        line += strcspn(line, "\n") + 1;
        want += size + (want[size] == '\n');
    }
    if (*line)
        print_message("# too much: %s", line);
    assert_int_equal(*line, 0);
    for (const char *at = faults.data; *at; at++)
        assert_true((unsigned char)*at >= 0x20 || *at == '\n');
}

static void assert_faults(const char *yaml, const char *expected)
{
    assert_faults_of(bytes_str(yaml), expected);
}

static void one_job(void **state)
{
    (void)state;
    assert_jobs("# a job\nname: hello\ncommand: [echo, \"hello world\"]\ncpus: 0.5\nmem: 512M\ntime: 2h30m\narray: "
                "1-10%2\nhold: true\n",
                "{\"name\":\"hello\",\"command\":[\"echo\",\"hello "
                "world\"],\"hold\":true,\"cpus\":0.5,\"mem_bytes\":536870912,\"time_limit_s\":9000,"
                "\"array\":\"1-10%2\"}\n");
    assert_jobs("command:\n- sh\n- -c\n- |\n  set -e\n  echo {}\n",
                "{\"name\":\"sh\",\"command\":[\"sh\",\"-c\",\"set -e\\necho {}\\n\"]}\n");
    assert_jobs("%YAML 1.1\n---\ncommand: [x]\n...\n", "{\"name\":\"x\",\"command\":[\"x\"]}\n");
    assert_jobs("\xef\xbb\xbf"
                "command: [x]\r\ncpus: 2\r\n",
                "{\"name\":\"x\",\"command\":[\"x\"],\"cpus\":2}\n");
}

static void several_jobs(void **state)
{
    (void)state;
    assert_jobs("- command: [a]\n- command: [b]\n",
                "{\"name\":\"a\",\"command\":[\"a\"]}\n{\"name\":\"b\",\"command\":[\"b\"]}\n");
    assert_jobs(
        "defaults:\n  queue: batch\n  mem: 1G\n  env: {LANG: C, N: \"1\"}\n  labels: {team: x}\n  resources: {lic: 1}\n"
        "jobs:\n- {name: build, command: [make], mem_bytes: 5}\n"
        "- {name: test, command: [make, check], after: [{name: build}, {job: 7, when: any}], env: {N: \"2\", M: "
        "\"3\"}, queue: fast, resources: {lic: 2}}\n",
        "{\"name\":\"build\",\"command\":[\"make\"],\"env\":{\"LANG\":\"C\",\"N\":\"1\"},\"queue\":\"batch\",\"mem_"
        "bytes\":5,\"resources\":{\"lic\":1},"
        "\"labels\":{\"team\":\"x\"}}\n"
        "{\"name\":\"test\",\"command\":[\"make\",\"check\"],\"env\":{\"LANG\":\"C\",\"N\":\"2\",\"M\":\"3\"},"
        "\"queue\":\"fast\","
        "\"after\":[{\"job\":7,\"when\":\"any\"},{\"name\":\"build\"}],\"mem_bytes\":1073741824,\"resources\":{\"lic\":"
        "2},\"labels\":{\"team\":\"x\"}}\n");
    /* the default name may be named too */
    assert_jobs("- command: [/bin/a]\n- command: [b]\n  after: [{name: a}]\n",
                "{\"name\":\"a\",\"command\":[\"/bin/"
                "a\"]}\n{\"name\":\"b\",\"command\":[\"b\"],\"after\":[{\"name\":\"a\"}]}\n");
}

static void json_is_fine_too(void **state)
{
    (void)state;
    assert_jobs("{\"command\": [\"a\", \"\\ud83d\\ude00\\/\"],\n\t\"cpus\": 2}\n",
                "{\"name\":\"a\",\"command\":[\"a\",\"\xf0\x9f\x98\x80/\"],\"cpus\":2}\n");
    assert_jobs("{\"jobs\":[{\"command\":[\"a\"]}]}", "{\"name\":\"a\",\"command\":[\"a\"]}\n");
    assert_jobs("[{\"command\":[\"a\"]},\n{command: [b]}]",
                "{\"name\":\"a\",\"command\":[\"a\"]}\n{\"name\":\"b\",\"command\":[\"b\"]}\n");
    assert_faults("{\"command\": [\"a\"],\n \"cpu\": 2,\n  \"mem\": \"4Q\"}",
                  "2:2: cpu: there is no key \"cpu\"; did you mean cpus?\n3:10: mem: \"4Q\" is not a size");
    assert_faults("{\"command\": [\"a\"],\n \"cpus\": 2, \"cpus\": 3}",
                  "2:13: the key \"cpus\" stands here a second time");
}

static void one_json_per_line(void **state)
{
    (void)state;
    assert_jobs("{\"command\":[\"a\"]}\n\n{\"command\":[\"b\"],\"after\":[{\"name\":\"a\"}]}\r\n{\"command\":[\"c\"]}",
                "{\"name\":\"a\",\"command\":[\"a\"]}\n{\"name\":\"b\",\"command\":[\"b\"],\"after\":[{\"name\":\"a\"}]"
                "}\n{\"name\":\"c\",\"command\":[\"c\"]}\n");
    assert_faults(
        "{\"command\":[\"a\"]}\n{\"command\":[\"b\"],\n{\"command\":[\"c\"],\"cpu\":1}\n[1]\n",
        "2:17: not JSON: string or '}' expected\n3:18: cpu: there is no key\n4:1: a job must be a map, not a list");
    assert_faults("[1]\n{\"command\":[\"c\"]}\n", "2:1: not YAML");
}

static void the_traps_of_yaml(void **state)
{
    (void)state;
    /* text stays text, as it was written */
    assert_jobs("command: [x, yes, no, on, 017, 0o17, 0x1F, 1:30, 1e3, 12_3, .5, ~a, 1.10, true, 2026-11-23]\n",
                "{\"name\":\"x\",\"command\":[\"x\",\"yes\",\"no\",\"on\",\"017\",\"0o17\",\"0x1F\",\"1:30\",\"1e3\","
                "\"12_3\",\".5\",\"~a\",\"1.10\",\"true\",\"2026-11-23\"]}\n");
    assert_jobs("command: [x]\nenv: {PORT: 8080, DEBUG: true, V: 1.10, N: no, BIG: 12345678901234567890}\nname: 007\n",
                "{\"name\":\"007\",\"command\":[\"x\"],\"env\":{\"PORT\":\"8080\",\"DEBUG\":\"true\",\"V\":\"1.10\","
                "\"N\":\"no\",\"BIG\":\"12345678901234567890\"}}\n");
    assert_jobs("command: [x]\npriority: 1_000\ntime: 90\ngrace: 1.5\n",
                "{\"name\":\"x\",\"command\":[\"x\"],\"priority\":1000,\"time_limit_s\":90,\"grace_s\":1.5}\n");
    assert_faults("command: [x]\nhold: yes\n", "2:7: hold must be true or false");
    assert_faults("command: [x]\nhold: \"true\"\n", "2:7: hold must be true or false");
    assert_faults("command: [x]\npriority: 017\n", "2:11: priority must be a whole number");
    assert_faults("command: [x]\npriority: 0o17\n", "2:11: priority must be a whole number");
    assert_faults("command: [x]\npriority: 0x1F\n", "2:11: priority must be a whole number");
    assert_faults("command: [x]\npriority: 1:30\n", "2:11: priority must be a whole number");
    assert_faults("command: [x]\npriority: 1__0\n", "2:11: priority must be a whole number");
    assert_faults("command: [x]\npriority: \"5\"\n",
                  "2:11: priority must be a whole number, not text; write the number without quotes");
    assert_faults("command: [x]\npriority: 99999999999999999999\n", "2:11: priority is beyond all bounds");
    assert_faults("command: [x]\ncpus: .inf\n", "2:7: cpus must be a number");
    assert_faults("command: [x]\ncpus: .nan\n", "2:7: cpus must be a number");
    assert_faults("command: [x]\ncpus: 1e999\n", "2:7: cpus must be a number");
    assert_faults("command: [x]\ncpus: +1\n", "2:7: cpus must be a number");
    assert_faults("command: [x]\nname:\n", "2:6: name has no value; write a value, or leave the key out");
    assert_faults("command: [x]\nname: ~\n", "2:7: name has no value");
    assert_faults("command: [x]\nmem: 4096\n", "2:6: mem must be a size");
    assert_faults("command: echo hello\n",
                  "1:10: command must be a list of strings, not text; write [\"program\", \"argument\"]");
}

static void all_faults_in_one_run(void **state)
{
    (void)state;
    assert_faults("jobs:\n"
                  "  - comand: [x]\n"
                  "    cpu: 4\n"
                  "    mem: 4Q\n"
                  "  - name: a\n"
                  "    command: [a]\n"
                  "    after: [{name: zzz}, {name: b, wen: ok}]\n"
                  "    env: {ROTA_X: 1, \"1a\": 2}\n"
                  "    workdir: rel\n"
                  "  - cpus: 2\n"
                  "  - just text\n"
                  "extra: 1\n",
                  "2:5: comand: there is no key \"comand\"; did you mean command?\n"
                  "3:5: cpu: there is no key \"cpu\"; did you mean cpus?\n"
                  "4:10: mem: \"4Q\" is not a size; write 4G or 512M\n"
                  "7:13: after: no job named \"zzz\" stands before this one\n"
                  "7:36: after[1].wen: there is no key \"wen\"\n"
                  "8:19: env.ROTA_X: ROTA_X is set by Rota itself\n"
                  "8:28: env.1a: this is not the name of an environment variable\n"
                  "9:14: workdir is not an absolute path\n"
                  "10:5: command: the job has no command\n"
                  "11:5: a job must be a map, not text\n"
                  "12:1: there is no key \"extra\" beside jobs and defaults");
    assert_faults("defaults: {cpu: 1}\njobs: [{command: [x]}, {command: [y]}]\n",
                  "1:12: cpu: there is no key \"cpu\""); /* once, not per job */
    assert_faults("- {name: a, command: [x]}\n- {name: a, command: [x]}\n- {command: [y], after: [{name: a}]}\n",
                  "3:26: after: several jobs before");
    assert_faults("- {name: late, command: [x], after: [{name: later}]}\n- {name: later, command: [x]}\n",
                  "1:38: after: no job named");
    assert_faults("- {name: build, command: [x]}\n- {command: [y], after: [{name: biuld}]}\n",
                  "2:26: after: no job named \"biuld\" stands before this one; did you mean build?");
}

static void structure(void **state)
{
    (void)state;
    assert_faults("", "1:1: the file is empty");
    assert_faults("# nothing\n", "2:1: the file is empty");
    assert_faults("hello\n", "1:1: a job file is a map or a list, not text");
    assert_faults("[]\n", "1:1: the file has no jobs");
    assert_faults("jobs: []\n", "1:1: the file has no jobs");
    assert_faults("jobs: {a: 1}\n", "1:7: jobs must be a list");
    assert_faults("defaults: {cpus: 1}\n", "1:1: the file has no jobs");
    assert_faults("defaults: 7\njobs: [{command: [x]}]\n", "1:11: a job must be a map");
    assert_faults("command: [a\ncpus: 1\n", "2:5: not YAML: ");
    assert_faults("\tcommand: [a]\n", "1:1: not YAML: ");
    assert_faults("command: [a]\n---\ncommand: [b]\n", "2:1: a second document");
    assert_faults("command: [a]\ncommand: [b]\n", "2:1: the key \"command\" stands here a second time");
    assert_faults("command: [a]\nenv: {A: 1, B: 2, A: 3}\n", "2:19: the key \"A\" stands here a second time");
    assert_faults("command: &c [a]\nenv: {A: *c}\n",
                  "1:10: anchors are not used\n2:10: aliases are not used\n2:10: env.A has no value");
    assert_faults("command: [a]\n<<: {cpus: 2}\n", "2:1: <<: there is no key \"<<\"; use defaults:");
    assert_faults("command: [a]\ncpus: !!float 2\n", "2:7: tags are not used");
    assert_faults("command: [a]\nhold: !!python/object:os.system x\n", "2:7: tags are not used\n2:7: hold must be");
    assert_faults("%TAG ! tag:example.com:\n---\ncommand: [a]\n", "1:1: tags are not used");
    assert_faults("command: [a]\n[1, 2]: 3\n", "2:1: a key must be text");
    assert_faults("command: [a]\n? {a: b}\n: 3\n", "2:3: a key must be text");
    assert_faults("command: [a, \"\\0\"]\n", "1:14: a NUL in text");
    assert_faults("command: [a]\n\"\\e[2J\": 1\n", "2:1: ?[2J: there is no key \"?[2J\"");
    assert_faults("command: [a]\nname: \"a\\nb\"\n", "2:7: name has control characters");
    assert_faults("command: [a, \"\xff\"]\n", "1:15: invalid leading UTF-8 octet");
    assert_faults("command: [a]\nname: \"\x1b[2J\"\n", "2:8: control characters are not allowed");
    assert_faults_of(bytes_of("command: [a\0b]\n", 15), "1:12: control characters are not allowed");
}

static void bounds(void **state)
{
    (void)state;
    autobuf struct buf b = BUF_INIT;
    autobuf struct buf out = BUF_INIT, faults = BUF_INIT;
    struct err e;
    for (int i = 0; i < 100000; i++)
        buf_char(&b, '[');
    assert_int_equal(spec_from_yaml("j", buf_bytes(&b), &out, &faults, &e), -ERR_INVALID);
    assert_non_null(strstr(faults.data, "more than 32"));
    buf_clear(&b);
    buf_str(&b, "command: [a]\nname: ");
    for (int i = 0; i < 1048576; i++)
        buf_char(&b, 'x');
    buf_clear(&faults);
    assert_int_equal(spec_from_yaml("j", buf_bytes(&b), &out, &faults, &e), -ERR_INVALID);
    assert_non_null(strstr(faults.data, "65536"));
    /* a thousand faults are counted, a hundred shown */
    buf_clear(&b);
    for (int i = 0; i < 1000; i++)
        buf_printf(&b, "- {command: [a], cpu: %d}\n", i);
    buf_clear(&faults);
    assert_int_equal(spec_from_yaml("j", buf_bytes(&b), &out, &faults, &e), -ERR_INVALID);
    assert_non_null(strstr(faults.data, "j: and 900 more faults\n"));
    assert_string_equal(e.text, "j has 1000 faults");
    /* many jobs */
    buf_clear(&b);
    for (int i = 0; i < 5000; i++)
        buf_printf(&b, "- {name: n%d, command: [a, \"%d\"], after: [{name: n%d}]}\n", i, i, i ? i - 1 : 0);
    buf_clear(&faults);
    assert_int_equal(spec_from_yaml("j", buf_bytes(&b), &out, &faults, &e),
                     -ERR_INVALID); /* the first waits for itself */
    b.data[strcspn(b.data, "]") + 1] = '}';
    memset(b.data + strcspn(b.data, "}") + 1, ' ', strcspn(b.data + strcspn(b.data, "}") + 1, "\n"));
    buf_clear(&faults);
    assert_int_equal(spec_from_yaml("j", buf_bytes(&b), &out, &faults, &e), 0);
    size_t lines = 0;
    for (size_t i = 0; i < out.size; i++)
        lines += out.data[i] == '\n';
    assert_int_equal(lines, 5000);
    buf_clear(&b);
    while (b.size <= 16 * 1048576)
        buf_str(&b,
                "# ................................................................................................\n");
    assert_int_equal(spec_from_yaml("j", buf_bytes(&b), &out, &faults, &e), -ERR_TOO_LARGE);
}

/* Each line that comes out is a job by itself, with the meaning it had. */
static void what_comes_out_goes_in(void **state)
{
    (void)state;
    autobuf struct buf out = BUF_INIT, faults = BUF_INIT, again = BUF_INIT;
    struct err e;
    struct arena arena = ARENA_INIT;
    const char *yaml = "defaults: {mem: 1.5G, env: {A: \"1\"}}\njobs:\n- {command: [a], begin: now+2h, time: 90}\n- "
                       "{command: [b], array: \"1-9:2%3\", backoff: 1s, backoff_max: 5min}\n";
    assert_int_equal(spec_from_yaml("j", bytes_str(yaml), &out, &faults, &e), 0);
    for (char *line = out.data, *end; (end = strchr(line, '\n')); line = end + 1) {
        struct job_spec spec;
        assert_int_equal(spec_from_json_with(&arena, bytes_of(line, (size_t)(end - line)), NULL, &spec, &e),
                         0); /* no relative time is left */
        buf_clear(&again);
        spec_to_json(&again, &spec); /* the same but for the name, which is the default here */
        assert_int_equal(strncmp(again.data + 1, line + strlen("{\"name\":\"a\","), again.size - 1), 0);
    }
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_job),
        cmocka_unit_test(several_jobs),
        cmocka_unit_test(json_is_fine_too),
        cmocka_unit_test(one_json_per_line),
        cmocka_unit_test(the_traps_of_yaml),
        cmocka_unit_test(all_faults_in_one_run),
        cmocka_unit_test(structure),
        cmocka_unit_test(bounds),
        cmocka_unit_test(what_comes_out_goes_in),
    };
    return cmocka_run_group_tests_name("spec_yaml", tests, NULL, NULL);
}

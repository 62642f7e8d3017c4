#include "cli/test.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/config.h"
#include "cli/slurm.h"
#include "cli/supervise.h"

static int read_yaml(struct settings *s, const char *text, struct buf *faults)
{
    settings_init(s);
    return settings_from_yaml(s, "f.yaml", bytes_str(text), faults);
}

static void the_table_has_the_defaults_of_the_daemons(void **state)
{
    (void)state;
    struct settings s;
    struct master_config m;
    struct worker_config w;
    settings_init(&s);
    master_config_default(&m);
    worker_config_default(&w);
    s.master.address = m.address; /* NULL means the same */
    s.worker.exec = w.exec;
    s.master.sched.token_key[0] = m.sched.token_key[0];
    assert_memory_equal(&s.master.sched, &m.sched, sizeof m.sched);
    assert_int_equal(s.master.port, m.port);
    assert_int_equal(s.master.store_reserve_bytes, m.store_reserve_bytes);
    assert_int_equal(s.worker.window, w.window);
    assert_int_equal(s.worker.log_bytes_max, w.log_bytes_max);
    assert_int_equal(s.worker.disk_reserve_bytes, w.disk_reserve_bytes);
    assert_int_equal(s.worker.metrics_port, w.metrics_port);
    autobuf struct buf faults = BUF_INIT;
    assert_int_equal(settings_check(&s, CONFIG_master, &faults), 0);
    assert_int_equal(settings_check(&s, CONFIG_worker, &faults), 0);
    settings_fini(&s);
}

static void every_type_is_read(void **state)
{
    (void)state;
    struct settings s;
    autobuf struct buf faults = BUF_INIT;
    int rc = read_yaml(&s,
                       "master:\n  state: /s\n  port: 0\n  hosts: [a.example, b.example]\n  order: fifo\n  backfill: "
                       "easy\n  lease: 70s\n  store_reserve: 1M\n"
                       "  log_level: warn\nworker:\n  name: w\n  exec: fake\n  cpus: 2.5\n  mem: 4G\n  resources: "
                       "{lic: 3, disk: 10}\n  stop_jobs: true\n",
                       &faults);
    assert_string_equal(faults.data ? faults.data : "", "");
    assert_int_equal(rc, 0);
    assert_string_equal(s.master.state_dir, "/s");
    assert_int_equal(s.master.port, 0);
    assert_string_equal(s.master.hosts[1], "b.example");
    assert_null(s.master.hosts[2]);
    assert_int_equal(s.master.sched.order, ORDER_FIFO);
    assert_int_equal(s.master.sched.backfill, BACKFILL_EASY);
    assert_int_equal(s.master.sched.lease_ms, 70000);
    assert_int_equal(s.master.store_reserve_bytes, 1 << 20);
    assert_int_equal(s.master_log.level, 2);
    assert_string_equal(s.worker.exec, "fake");
    assert_int_equal(s.worker.capacity.v[RES_CPU], 2500);
    assert_int_equal(s.worker.capacity.v[RES_MEM], 4ull << 30);
    assert_int_equal(s.worker.named_count, 2);
    assert_string_equal(s.worker.named[1].name, "disk");
    assert_int_equal(s.worker.named[1].count, 10);
    assert_true(s.worker.stop_jobs);
    settings_fini(&s);
}

static void an_empty_file_is_the_defaults(void **state)
{
    (void)state;
    static const char *const texts[] = { "", "# nothing\n", "master:\nworker: ~\n", "{}" };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct settings s;
        autobuf struct buf faults = BUF_INIT;
        assert_int_equal(read_yaml(&s, texts[i], &faults), 0);
        settings_fini(&s);
    }
}

static void faults_are(const char *text, const char *expected)
{
    struct settings s;
    autobuf struct buf faults = BUF_INIT;
    assert_int_equal(read_yaml(&s, text, &faults), -ERR_INVALID);
    if (strcmp(faults.data, expected) != 0)
        fail_msg("\"%s\" gives \"%s\"", text, faults.data);
    settings_fini(&s);
}

static void every_fault_has_its_place_and_a_way_out(void **state)
{
    (void)state;
    faults_are("master:\n  heartbeet: 5s\n  port: 99999\nworker:\n  exec: dokcer\n",
               "f.yaml:2:3: there is no setting \"heartbeet\" of the master; did you mean heartbeat?\n"
               "f.yaml:3:9: port: \"99999\" is not between 0 and 65535\n"
               "f.yaml:5:9: exec: \"dokcer\" is not one of its values; write process, docker or fake\n");
    faults_are("mastre: {}\n", "f.yaml:1:1: there is no section \"mastre\"; did you mean master\n");
    faults_are("master: {port: 1, port: 2}\n", "f.yaml:1:19: port: given twice\n");
    faults_are("master: {}\nmaster: {}\n", "f.yaml:2:1: the section master is there twice\n");
    faults_are("- a\n", "f.yaml:1:1: a settings file is a map with the sections master and worker\n");
    faults_are("master: [1]\n", "f.yaml:1:9: master: write a map of settings\n");
    faults_are("master: {insecure_bind: maybe}\n",
               "f.yaml:1:25: insecure_bind: \"maybe\" is neither true nor false; write true or false\n");
    faults_are("master: {port: [1]}\n", "f.yaml:1:16: port: write one value\n");
    faults_are("worker: {resources: {cpus: 2}}\n", "f.yaml:1:28: resources: cpus is a setting of its own\n");
    faults_are("worker: {resources: {lic: many}}\n",
               "f.yaml:1:27: resources: \"many\" is not a whole number; write digits, such as 7 or 1_000_000\n");
    faults_are("worker: {zzzzzzzz: 1}\n",
               "f.yaml:1:10: there is no setting \"zzzzzzzz\" of the worker; rota worker --help lists them\n");
    faults_are("a: {}\n---\nb: {}\n", "f.yaml:2:1: a second document; write one\n");
}

static void what_is_not_yaml_is_refused_with_its_place(void **state)
{
    (void)state;
    struct settings s;
    static const char *const texts[] = {
        "master: {", "\tmaster: 1\n", "a: 'b\n", "a: *b\n", "\xff\xfe\xff", "a: {b: c]"
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        autobuf struct buf faults = BUF_INIT;
        assert_int_equal(read_yaml(&s, texts[i], &faults), -ERR_INVALID);
        assert_true(strncmp(faults.data, "f.yaml:", 7) == 0);
        settings_fini(&s);
    }
}

static void time_outs_must_keep_their_order(void **state)
{
    (void)state;
    struct settings s;
    autobuf struct buf faults = BUF_INIT;
    assert_int_equal(read_yaml(&s, "master: {heartbeat: 20s, lease: 10s, lost_after: 79s, address: 0.0.0.0}", &faults),
                     0);
    assert_int_equal(settings_check(&s, CONFIG_master, &faults), -ERR_INVALID);
    assert_string_equal(faults.data, "master: heartbeat (20s) must be shorter than suspect (15s)\n"
                                     "master: suspect (15s) must be shorter than lease (10s)\n"
                                     "master: down (80s) must be at most lost_after (79s)\n"
                                     "master: address 0.0.0.0 can be reached by others, and there is no TLS; set "
                                     "insecure_bind to true if you trust the network\n");
    settings_fini(&s);
    buf_clear(&faults);
    assert_int_equal(read_yaml(&s, "master: {address: 0.0.0.0, insecure_bind: true}", &faults), 0);
    assert_int_equal(settings_check(&s, CONFIG_master, &faults), 0);
    settings_fini(&s);
    static const char *const loops[] = { "127.0.0.1", "127.1.2.3", "::1", "localhost" };
    for (size_t i = 0; i < sizeof loops / sizeof *loops; i++) {
        settings_init(&s);
        s.master.address = loops[i];
        assert_int_equal(settings_check(&s, CONFIG_master, &faults), 0);
        settings_fini(&s);
    }
}

static void options_count_more_than_the_file(void **state)
{
    (void)state;
    struct settings s;
    struct args args;
    struct err err;
    autobuf struct buf faults = BUF_INIT;
    assert_int_equal(
        read_yaml(&s, "worker: {cpus: 2, exec: fake, resources: {a: 1, b: 2}}\nmaster: {hosts: [x]}", &faults), 0);
    char *words[] = { "worker", "--cpus", "3", "--resources", "c=3", "--stop-jobs" };
    assert_int_equal(args_parse(&args, command_named("worker"), 6, words, &err), 0);
    assert_int_equal(settings_from_args(&s, CONFIG_worker, &args, &err), 0);
    args_fini(&args);
    assert_int_equal(s.worker.capacity.v[RES_CPU], 3000);
    assert_string_equal(s.worker.exec, "fake");
    assert_int_equal(s.worker.named_count, 1);
    assert_string_equal(s.worker.named[0].name, "c");
    assert_true(s.worker.stop_jobs);
    settings_complete(&s);
    assert_non_null(strstr(s.worker.bus_url, "/master/bus.sock"));
    settings_fini(&s);
}

/* --- supervision --- */

static int status_of(int code)
{
    return code << 8;
} /* as waitpid gives it on Linux */

static void crashes_are_tried_again_and_refusals_are_not(void **state)
{
    (void)state;
    assert_true(exit_is_final(status_of(65)) && exit_is_final(status_of(75)) && exit_is_final(status_of(78)));
    assert_false(exit_is_final(status_of(74)) || exit_is_final(status_of(0)) || exit_is_final(status_of(1)) ||
                 exit_is_final(SIGKILL));
    assert_true(WIFSIGNALED(SIGKILL));
}

static void pauses_grow_to_five_seconds_and_a_calm_child_starts_over(void **state)
{
    (void)state;
    struct restarts r = { 0 };
    static const int64_t expected[] = { 200, 400, 800, 1600, 3200, 5000, 5000 };
    int64_t now_ms = 1000;
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        restarts_started(&r, now_ms);
        now_ms += 10;
        assert_int_equal(restarts_pause_ms(&r, now_ms), expected[i]);
    }
    restarts_started(&r, now_ms);
    assert_int_equal(restarts_pause_ms(&r, now_ms + RESTART_CALM_MS), 200);
}

static void a_process_is_known_by_when_it_began(void **state)
{
    (void)state;
    assert_true(process_start(getpid()) > 0);
    assert_int_equal(process_start(getpid()), process_start(getpid()));
    assert_int_equal(process_start(0x7ffffff0), 0);
}

/* --- Slurm's ways to write things --- */

static void slurm_times_are_minutes_unless_they_have_colons(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t seconds;
    } good[] = {
        { "30", 1800 },     { "1:30", 90 },        { "2:00:00", 7200 },      { "1-0", 86400 },
        { "1-12", 129600 }, { "1-12:30", 131400 }, { "2-00:00:01", 172801 },
    };
    static const char *const bad[] = {
        "", "x", "1:", ":1", "1-", "-1", "1:2:3:4", "1h", "1 ", "999999999999999999999"
    };
    struct err err;
    int64_t seconds;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(slurm_time(good[i].text, &seconds, &err), 0);
        assert_int_equal(seconds, good[i].seconds);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (slurm_time(bad[i], &seconds, &err) == 0)
            fail_msg("\"%s\" was taken", bad[i]);
}

static void slurm_dependencies_and_patterns_are_understood(void **state)
{
    (void)state;
    struct err err;
    autobuf struct buf out = BUF_INIT;
    assert_int_equal(slurm_dependency("afterok:1:2,afterany:3,afternotok:4", &out, &err), 0);
    assert_string_equal(out.data, "1,2\n3:any\n4:fail\n");
    assert_true(slurm_dependency("singleton", &out, &err) < 0);
    assert_true(slurm_dependency("afterok", &out, &err) < 0);
    buf_clear(&out);
    slurm_pattern(&out, "a b/%x-%j_%a.%%o'ut", "my'job");
    assert_string_equal(out.data, "'a b/''my'\\''job''-'\"$ROTA_JOB_ID\"'_'\"$ROTA_TASK_ID\"'.''%''o'\\''ut'");
    assert_true(slurm_name("sbatch") && slurm_name("squeue") && slurm_name("scancel") && slurm_name("sinfo") &&
                slurm_name("srun"));
    assert_false(slurm_name("rota"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_has_the_defaults_of_the_daemons),
        cmocka_unit_test(every_type_is_read),
        cmocka_unit_test(an_empty_file_is_the_defaults),
        cmocka_unit_test(every_fault_has_its_place_and_a_way_out),
        cmocka_unit_test(what_is_not_yaml_is_refused_with_its_place),
        cmocka_unit_test(time_outs_must_keep_their_order),
        cmocka_unit_test(options_count_more_than_the_file),
        cmocka_unit_test(crashes_are_tried_again_and_refusals_are_not),
        cmocka_unit_test(pauses_grow_to_five_seconds_and_a_calm_child_starts_over),
        cmocka_unit_test(a_process_is_known_by_when_it_began),
        cmocka_unit_test(slurm_times_are_minutes_unless_they_have_colons),
        cmocka_unit_test(slurm_dependencies_and_patterns_are_understood),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

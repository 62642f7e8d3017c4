/* sim_main.c: runs the fault simulator over a range of seeds, several processes at a time.
 * rota-sim FIRST COUNT [--bug NAME] [--trace]: each seed runs in a child, so that a failed check names its seed too. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bug.h"
#include "sim/fault_sim.h"

#ifdef ROTA_PLANT_BUGS
static const char *const bug_names[BUGS] = {
    [BUG_NONE] = "none",
#define B(name, text) [BUG_##name] = #name,
    BUG_LIST(B)
#undef B
};
#endif

static int run_range(uint64_t first, uint64_t count, bool trace, bool quiet)
{
    for (uint64_t seed = first; seed < first + count; seed++) {
        struct fault_sim_options options = { .seed = seed, .trace = trace, .quiet = quiet };
        struct buf out = BUF_INIT;
        /* Where a check aborts, this line tells which seed it was. */
        char note[64];
        int n = snprintf(note, sizeof note, "seed %" PRIu64 "\n", seed);
        if (ftruncate(3, 0) == 0 && pwrite(3, note, (size_t)n, 0) < 0)
            perror("rota-sim");
        int rc = fault_sim_run(&options, NULL, &out);
        if (out.size)
            fwrite(out.data, 1, out.size, stdout);
        buf_fini(&out);
        if (rc)
            return 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 10) : 1, count = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    bool trace = false, quiet = count > 20;
    for (int i = 3; i < argc; i++) {
        if (strcmp(argv[i], "--trace") == 0)
            trace = true;
#ifdef ROTA_PLANT_BUGS
        if (strcmp(argv[i], "--bug") == 0 && i + 1 < argc) {
            for (int b = 0; b < BUGS; b++)
                if (strcmp(argv[i + 1], bug_names[b]) == 0)
                    bug_planted = (enum bug)b;
            if (bug_planted == BUG_NONE) {
                fprintf(stderr, "rota-sim: there is no bug \"%s\"\n", argv[i + 1]);
                return 2;
            }
            i++;
        }
#endif
    }
    FILE *note = tmpfile();
    if (!note || dup2(fileno(note), 3) < 0) {
        perror("rota-sim");
        return 2;
    }
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        int rc = run_range(first, count, trace, quiet);
        fflush(stdout);
        _exit(rc);
    }
    int status;
    if (child < 0 || waitpid(child, &status, 0) < 0) {
        perror("rota-sim");
        return 2;
    }
    if (WIFEXITED(status)) {
        if (WEXITSTATUS(status) == 0)
            printf("%" PRIu64 " seeds from %" PRIu64 " on: every invariant held\n", count, first);
        return WEXITSTATUS(status);
    }
    char text[64] = "";
    if (pread(3, text, sizeof text - 1, 0) < 0)
        perror("rota-sim");
    printf("a check failed in %s", text);
    return 1;
}

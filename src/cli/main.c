/* The one binary. Its first word, or the name it is called by, says what it is. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/help.h"
#include "cli/slurm.h"
#include "cli/term.h"
#include "exec/nursery.h"

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static int usage(void)
{
    autobuf struct buf out = BUF_INIT;
    help_top(&out);
    fwrite(out.data, 1, out.size, stderr);
    return 2;
}

static int unknown_verb(const char *word)
{
    const char *near = help_nearest_command(word);
    if (word[0] == '-')
        say("%s is not an option here; put options behind the verb, or see `rota help`", word);
    else if (near)
        say("there is no verb \"%s\"; did you mean %s?", word, near);
    else
        say("there is no verb \"%s\"; `rota help` lists them", word);
    return 2;
}

static int run_verb(int argc, char **argv)
{
    const struct command *c = command_named(argv[0]);
    if (!c)
        return unknown_verb(argv[0]);
    struct args args;
    struct err err;
    if (c == &command_complete) { /* its words are not its options */
        args = (struct args){ .command = c, .operands = argv + 1, .operands_count = (size_t)argc - 1 };
        return c->run(&args);
    }
    int code = args_parse(&args, c, argc, argv, &err) < 0 ? say_error(&err) : -1;
    if (code < 0 && args_has(&args, "help")) {
        autobuf struct buf out = BUF_INIT;
        help_command(&out, c);
        out_flush(&out);
        code = 0;
    }
    if (code < 0)
        code = c->run(&args);
    args_fini(&args);
    return code;
}

int main(int argc, char **argv)
{
    static char help_word[] = "help", version_word[] = "version";
    if (argc > 1 && strcmp(argv[1], NURSERY_ARGUMENT) == 0)
        return nursery_main(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    if (argc > 0 && slurm_name(base_name(argv[0])))
        return slurm_main(argc, argv);
    argc--;
    argv++;
    while (argc > 0 && strncmp(argv[0], "--master", 8) == 0 &&
           (argv[0][8] == '=' || (argv[0][8] == '\0' && argc > 1))) {
        int words = argv[0][8] == '=' ? 1 : 2;
        setenv("ROTA_MASTER", words == 1 ? argv[0] + 9 : argv[1], 1);
        argc -= words;
        argv += words;
    }
    if (argc == 0)
        return usage();
    if (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0)
        argv[0] = help_word;
    if (strcmp(argv[0], "--version") == 0 || strcmp(argv[0], "-V") == 0)
        argv[0] = version_word;
    return run_verb(argc, argv);
}

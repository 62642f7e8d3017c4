/* daemon.h: exit codes of the daemons, which `rota up` reads. */
#ifndef ROTA_CLI_DAEMON_H
#define ROTA_CLI_DAEMON_H

enum {
    EXIT_STORE = 65,    /* the store is corrupt or not ours */
    EXIT_COMMIT = 74,   /* a commit is unknown: start again */
    EXIT_IN_USE = 75,   /* another one is at work there */
    EXIT_SETTINGS = 78, /* bad settings */
};

#endif

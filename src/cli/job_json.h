/* job_json.h: the options of `rota submit` and `rota run` as the JSON of one job (schema/jobspec.def). */
#ifndef ROTA_CLI_JOB_JSON_H
#define ROTA_CLI_JOB_JSON_H

#include "cli/args.h"

/* The rows that describe a job, shared by submit, run and cron. */
#define JOB_OPTIONS_MAX 64
extern const struct option_row job_options[];
/* The rows of the verb itself, and then those of a job; `rows` keeps them, zeroed at first. */
const struct option_row *job_options_after(struct option_row rows[JOB_OPTIONS_MAX], const struct option_row *first);

/* One job as a JSON object on one line. On failure *err names the option. */
int job_json_from(const struct args *args, struct buf *out, struct err *err);
/* The first job option that was given, or NULL: for verbs that take a file instead. */
const struct given *job_option_given(const struct args *args);

/* {"KEY":"TEXT"}, or {} when text is NULL: bodies of small requests. (Here, because jansson.h and wire/json_out.h do
 * not go together in one file.) */
void json_one(struct buf *out, const char *key, const char *text);

#endif

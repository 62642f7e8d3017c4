/* bug.h: bugs that can be planted, to test the tests: `meson -Dplant_bugs=true` builds the simulator with them switched on one
 * at a time (rota-sim --bug NAME); in every other build BUG(x) is the constant 0 and leaves no trace. */
#ifndef ROTA_BASE_BUG_H
#define ROTA_BASE_BUG_H

#define BUG_LIST(B) \
    B(reply_before_commit, "the master answers before the commit") \
    B(send_before_commit, "the master sends START and REPORT_ACK before the commit") \
    B(commit_not_synced, "the last commit is lost in a crash although it was answered") \
    B(no_fence, "a report of an older attempt counts") \
    B(no_token, "a report without the right token counts") \
    B(old_orders, "a worker obeys messages of an older epoch or session") \
    B(start_twice, "a worker forgets what was acknowledged and takes a late START again") \
    B(spawn_before_journal, "a worker spawns before its journal is durable") \
    B(exec_again, "a restarted worker starts accepted attempts again") \
    B(retry_cancelled, "a cancelled task is tried again") \
    B(release_not_journalled, "a release is not written to the journal") \
    B(leak_resources, "the resources of a lost attempt are not given back") \
    B(no_resend, "a lost START is not sent again") \
    B(infra_counts, "failures of the infrastructure count as the job's") \
    B(overbook, "a worker starts more than fits") \
    B(place_twice, "a worker does not see that a place was passed on, and gives it to another")  \
    B(forget_returned, "a task of an array that came back is not queued again") \
    B(snapshot_forgets, "a snapshot does not hold how often a job has failed") \
    B(limit_off_by_one, "a limit lets in one attempt more") \
    B(paused_runs, "jobs of a paused queue start") \
    B(gang_torn, "the last part of a gang is not started with the others") \
    B(gang_of_one, "a gang of which one part has failed succeeds") \
    B(due_again, "a job that comes again comes twice for one time") \
    B(token_not_woken, "who waits for a token does not hear that it was given back") \
    B(invent_success, "an attempt whose end nobody saw counts as a success") \
    B(lease_from_answer, "a worker counts its lease from when the answer came, not from when it had asked") \
    B(start_unleased, "a worker and its executor start what may not overlap without a lease, or after one that ran out") \
    B(hold_ignored, "the master gives up what may not overlap before the worker's lease has run out") \
    B(renewal_forgotten, "the master answers who renews a lease over HTTP, and gives up what it kept all the same")

enum bug {
    BUG_NONE,
#define B(name, text) BUG_##name,
    BUG_LIST(B)
#undef B
    BUGS
};

#ifdef ROTA_PLANT_BUGS
extern enum bug bug_planted;
#define BUG(name) (bug_planted == BUG_##name)
#else
#define BUG(name) 0
#endif

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/migration_run.h - how far a migration has come, kept on disk so that a second
 * call goes on.
 *
 * The state is one struct of texts and numbers, which a table in migration_run.c turns into
 * a JSON object and back.  It is written after every step that changed something, and before
 * every call that makes something anew: then intent says what is about to be made, under
 * which name, and a run that was killed between the call and the note finds it by that name.
 */
#include <stdbool.h>
#include <stdint.h>

#include "agent/artifact.h"
#include "agent/rules.h"
#include "common/error.h"

#define AGT_RUN_FILE "migrate.json" /* in the state directory */
/* Sizes of its fields. */
#define AGT_RUN_TEXT 256
#define AGT_RUN_ID   72 /* ids, short names, addresses; a run_id has AGT_RUN_ID_SIZE */
#define AGT_RUN_LIST 2048

/* Where the chain stands: the step that is to be done next. */
enum agt_step {
	AGT_STEP_PRECHECK, /* old tasks of this source */
	AGT_STEP_AGREE,    /* privacy agreement */
	AGT_STEP_PROJECT,  /* migration project */
	AGT_STEP_SOURCE,   /* which source, and can SMS take it */
	AGT_STEP_TARGET,   /* the target server */
	AGT_STEP_TASK,     /* make the task */
	AGT_STEP_START,    /* start it */
	AGT_STEP_POLL,     /* wait for its end */
	AGT_STEP_STAGED,   /* the other road */
	AGT_STEP_POSTCHECK,
	AGT_STEP_DONE,
	AGT_STEPS,
};

struct agt_run {
	char run_id[AGT_RUN_ID_SIZE];
	int64_t started_at; /* epoch seconds */
	enum agt_step step;
	bool over; /* it ended by itself, and there is nothing to go on with */
	char intent[32]; /* "server", ...: about to be made; "": nothing */

	/* What the run is about; another call with other ones is another migration. */
	char source_given[AGT_RUN_TEXT];
	char existing_target[AGT_RUN_ID];
	char region[AGT_RUN_ID];

	char road[8]; /* "sms", "rsync"; "": not decided */
	char fallback_reason[512];
	char incompatible_reason[512];
	agt_used_t used; /* remedies */

	char source_id[AGT_RUN_ID];
	char source_name[AGT_RUN_TEXT];
	char source_ip[AGT_RUN_ID];
	char prechecked_id[AGT_RUN_ID]; /* whose old tasks have been deleted */

	char project_id[AGT_RUN_ID]; /* of the target's region */
	char migproject_id[AGT_RUN_ID];
	char migproject_name[AGT_RUN_ID];

	char vpc_id[AGT_RUN_ID];
	char vpc_name[AGT_RUN_TEXT];
	char vpc_cidr[AGT_RUN_ID];
	char subnet_id[AGT_RUN_ID];
	char group_id[AGT_RUN_ID];
	char eip_id[AGT_RUN_ID];
	char eip_address[AGT_RUN_ID];
	char eip_pool[AGT_RUN_ID];
	char pools_refused[AGT_RUN_TEXT];   /* with blanks between them */
	char flavor_id[AGT_RUN_ID];
	char flavors_refused[AGT_RUN_LIST]; /* with blanks between them */
	char zone[AGT_RUN_ID];
	char server_name[AGT_RUN_TEXT];
	char servers_before[AGT_RUN_LIST]; /* ids of servers that had this name before ours */
	int64_t server_try; /* how often one was asked for: part of the client token */
	char job_id[AGT_RUN_ID];
	char server_id[AGT_RUN_ID];
	char private_ip[AGT_RUN_ID];

	char task_type[24];
	bool private_address; /* use_public_ip false */
	bool without_disks;
	int64_t task_try; /* part of the task's name */
	char task_name[AGT_RUN_ID];
	char task_id[AGT_RUN_ID];
	char stale_task[AGT_RUN_ID]; /* a failed one that has to go before the next is made */
	char pending[24];            /* remedy that has to be carried out before that, too */
	char pending_code[AGT_RUN_ID];
	char task_state[32];
	int64_t task_started_at;
	int64_t task_finished_at;

	int64_t staged_status; /* exit status of stager; -1: it has not ended */
	char staged_state[32]; /* of its report */
	char staged_run_id[AGT_RUN_ID]; /* of its report */
};

/* A run that begins now, with an id of its own. */
void agt_migration_run_init(struct agt_run *r);

/*
 * The state kept in the directory state_dir.  -ENOENT: there is none.  -EBADMSG: the file is
 * damaged.  Members that are missing or of another type are empty.
 */
int agt_migration_run_load(const char *state_dir, struct agt_run *ret, struct err *e)
	_must_check_;

/* Replace it, synced, mode 0600. */
int agt_migration_run_save(const char *state_dir, const struct agt_run *r, struct err *e)
	_must_check_;

const char *agt_step_name(enum agt_step s); /* "precheck": in files and messages */

/* Copy text into a field of the run; false when it does not fit or is empty. */
bool agt_migration_run_set(char *field, size_t size, const char *text);
#define AGT_SET(field, text) agt_migration_run_set(field, sizeof(field), text)

/* Is one of words, with blanks between them, the word? */
bool agt_words_have(const char *words, const char *word);
/* Append a word; when there is no room left, the first ones go. */
void agt_words_add(char *words, size_t size, const char *word);

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/rules.h - what follows from an error code of the cloud, while a migration runs.
 *
 * The rules are a table, and nothing happens after a failure that is not in it.  Some of them
 * hold once in a run: the second time the next row with the same code is taken, and when
 * there is none left, the failure ends the run.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What went wrong; a row of the table names all the places that it is meant for. */
enum agt_place {
	AGT_AT_CHECK = 1u << 0,   /* in the checks of the source's record */
	AGT_AT_PROJECT = 1u << 1, /* making the migration project */
	AGT_AT_NETWORK = 1u << 2, /* making VPC, subnet, security group */
	AGT_AT_CREATE = 1u << 3,  /* making the task */
	AGT_AT_START = 1u << 4,   /* starting the task */
	AGT_AT_QUERY = 1u << 5,   /* asking for the task */
	AGT_AT_TASK = 1u << 6,    /* in the error_json of a task that failed */
};

enum agt_remedy {
	AGT_NO_RULE,         /* the run ends with this failure */
	AGT_STOP,            /* a rule ends it: a person has to do something first */
	AGT_GO_STAGED,       /* SMS cannot take this host: staged sync */
	AGT_AS_FILE,         /* make the task anew as MIGRATE_FILE */
	AGT_PRIVATE_ADDRESS, /* make the task anew with use_public_ip false */
	AGT_DELETE_FAILED,   /* delete the failed tasks of this source, make the task anew */
	AGT_DELETE_FINISHED, /* delete all that have ended, make the task anew */
	AGT_FREE_PROJECTS,   /* delete old migration projects, make the project anew */
	AGT_CURRENT_TASK,    /* the id is stale: go on with the source's live task */
	AGT_WITHOUT_DISKS,   /* make the task anew without target_server.disks */
	AGT_REFRESH_SOURCE,  /* register the source anew under its id, then make the task anew */
	AGT_REGISTER_SOURCE, /* register it as a new one, then go on with the new id */
	AGT_REMEDIES,
};

/* Which remedies a run has used: a set of bits 1 << remedy. */
typedef uint32_t agt_used_t;

/*
 * The remedy for code at place; used are those that the run has tried, and the one returned
 * is not added to it here.
 */
enum agt_remedy agt_rule_find(const char *code, enum agt_place place, agt_used_t used);

/* May this remedy be used only once in a run? */
bool agt_remedy_once(enum agt_remedy r);

const char *agt_remedy_name(enum agt_remedy r); /* "as_file": in the state file and the log */

/* A set of remedies as names with blanks between them, and back; unknown words are skipped. */
void agt_used_text(agt_used_t used, char *out, size_t size);
agt_used_t agt_used_parse(const char *text);

/* ---- the states of a task ---- */

enum agt_task_class {
	AGT_TASK_READY,   /* made, not started */
	AGT_TASK_LIVE,    /* at work; a word that nobody has documented counts as this */
	AGT_TASK_SUCCESS, /* an end */
	AGT_TASK_FAILED,  /* an end; it may be started again */
	AGT_TASK_PAUSED,  /* stopped by a person, who alone starts it again */
};

/* state may be NULL or empty, which is live: decide when the service says more. */
enum agt_task_class agt_task_classify(const char *state);

/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/rules.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/macro.h"

#define ANY_TASK (AGT_AT_CREATE | AGT_AT_START | AGT_AT_QUERY | AGT_AT_TASK)

struct rule {
	const char *code; /* NULL: any */
	unsigned places;
	enum agt_remedy remedy;
	agt_used_t needs; /* only after one of these was used */
};

/*
 * The first row that fits is taken.  The rows up to SMS.7602 are the flow that users of this
 * migration know; those below say which further codes mean "SMS cannot take this host".
 */
static const struct rule rules[] = {
	{ "SMS.6504", AGT_AT_CHECK | ANY_TASK, AGT_GO_STAGED, 0 },
	/* A kernel that cannot do block level; SMS.6616 says it of the whole system. */
	{ "SMS.6617", AGT_AT_CREATE | AGT_AT_START | AGT_AT_TASK, AGT_AS_FILE, 0 },
	{ "SMS.6616", AGT_AT_CREATE | AGT_AT_START | AGT_AT_TASK, AGT_AS_FILE, 0 },
	{ "SMS.6602", AGT_AT_CREATE, AGT_PRIVATE_ADDRESS, 0 },
	{ "SMS.7605", AGT_AT_CREATE, AGT_DELETE_FAILED, 0 },
	{ "SMS.7605", AGT_AT_CREATE, AGT_DELETE_FINISHED, 0 },
	{ "SMS.6603", ANY_TASK, AGT_STOP, 0 },
	{ "SMS.8115", AGT_AT_PROJECT, AGT_FREE_PROJECTS, 0 },
	{ "VPC.0114", AGT_AT_NETWORK, AGT_STOP, 0 },
	{ "SMS.7703", AGT_AT_QUERY | AGT_AT_START, AGT_CURRENT_TASK, 0 },
	{ "SMS.1404", ANY_TASK, AGT_WITHOUT_DISKS, 0 },
	{ "SMS.0515", ANY_TASK, AGT_REFRESH_SOURCE, 0 },
	{ "SMS.7602", ANY_TASK, AGT_REGISTER_SOURCE, 0 },

	/* Quotas: what frees them is not ours to delete. */
	{ "VPC.0604", AGT_AT_NETWORK, AGT_STOP, 0 },
	{ "VPC.0602", AGT_AT_NETWORK, AGT_STOP, 0 },
	{ "SMS.6501", ANY_TASK, AGT_STOP, 0 },
	{ "SMS.6526", ANY_TASK | AGT_AT_PROJECT, AGT_STOP, 0 },
	{ "SMS.7113", ANY_TASK | AGT_AT_PROJECT, AGT_STOP, 0 },
	{ "SMS.6407", ANY_TASK | AGT_AT_PROJECT, AGT_STOP, 0 },
	/* Somebody else's task is at work on this source or this target. */
	{ "SMS.7601", AGT_AT_CREATE, AGT_STOP, 0 },
	{ "SMS.6615", AGT_AT_CREATE, AGT_STOP, 0 },

	/* The host is of a kind that SMS does not migrate. */
	{ "SMS.0206", ANY_TASK, AGT_GO_STAGED, 0 }, /* not x86 */
	{ "SMS.0207", ANY_TASK, AGT_GO_STAGED, 0 }, /* no virtio drivers */
	{ "SMS.1402", ANY_TASK, AGT_GO_STAGED, 0 }, /* no ssh client */
	{ "SMS.1403", ANY_TASK, AGT_GO_STAGED, 0 }, /* no grub file */
	{ "SMS.1501", ANY_TASK, AGT_GO_STAGED, 0 }, /* system not supported */
	{ "SMS.3103", ANY_TASK, AGT_GO_STAGED, 0 }, /* boot loader cannot be rebuilt */
	{ "SMS.3205", ANY_TASK, AGT_GO_STAGED, 0 }, /* file system not supported */
	{ "SMS.5112", ANY_TASK, AGT_GO_STAGED, 0 }, /* the agent does not run here */
	{ "SMS.5302", ANY_TASK, AGT_GO_STAGED, 0 },
	{ "SMS.6503", ANY_TASK, AGT_GO_STAGED, 0 },
	{ "SMS.6505", ANY_TASK, AGT_GO_STAGED, 0 }, /* firmware */
	{ "SMS.6508", ANY_TASK, AGT_GO_STAGED, 0 }, /* partition table */
	{ "SMS.6509", ANY_TASK, AGT_GO_STAGED, 0 }, /* file system */
	{ "SMS.6515", ANY_TASK, AGT_GO_STAGED, 0 }, /* paravirtualised */
	{ "SMS.6516", ANY_TASK, AGT_GO_STAGED, 0 }, /* not GRUB */
	{ "SMS.6517", ANY_TASK, AGT_GO_STAGED, 0 }, /* no rsync */
	{ "SMS.6518", ANY_TASK, AGT_GO_STAGED, 0 }, /* raw device */
	{ "SMS.6520", ANY_TASK, AGT_GO_STAGED, 0 }, /* its checks failed */
	{ "SMS.6531", ANY_TASK, AGT_GO_STAGED, 0 },
	{ "SMS.6532", ANY_TASK, AGT_GO_STAGED, 0 },
	{ "SMS.6537", ANY_TASK, AGT_GO_STAGED, 0 }, /* system disk over 1 TB */
	{ "SMS.6563", ANY_TASK, AGT_GO_STAGED, 0 }, /* no initramfs */
	{ "SMS.6564", ANY_TASK, AGT_GO_STAGED, 0 }, /* GRUB modules missing */

	/* A check that failed, whatever its code: SMS refuses the source with SMS.6520 then. */
	{ NULL, AGT_AT_CHECK, AGT_GO_STAGED, 0 },
	/* MIGRATE_FILE was the second try; when it fails too, SMS cannot take the host. */
	{ NULL, AGT_AT_CREATE | AGT_AT_START, AGT_GO_STAGED, 1u << AGT_AS_FILE },
	{ "SMS.6617", AGT_AT_TASK, AGT_GO_STAGED, 1u << AGT_AS_FILE },
	{ "SMS.6616", AGT_AT_TASK, AGT_GO_STAGED, 1u << AGT_AS_FILE },
};

static const struct {
	const char *name;
	bool once;
} remedies[AGT_REMEDIES] = {
	[AGT_NO_RULE] = { "none", false },
	[AGT_STOP] = { "stop", false },
	[AGT_GO_STAGED] = { "staged", false },
	[AGT_AS_FILE] = { "as_file", true },
	[AGT_PRIVATE_ADDRESS] = { "private_address", true },
	[AGT_DELETE_FAILED] = { "delete_failed", true },
	[AGT_DELETE_FINISHED] = { "delete_finished", true },
	/* Each time it deletes at least one project, or it fails: it comes to an end. */
	[AGT_FREE_PROJECTS] = { "free_projects", false },
	[AGT_CURRENT_TASK] = { "current_task", false },
	[AGT_WITHOUT_DISKS] = { "without_disks", true },
	[AGT_REFRESH_SOURCE] = { "refresh_source", true },
	[AGT_REGISTER_SOURCE] = { "register_source", true },
};

/* A row for any code means a code of SMS: a gateway that throttles says nothing of the host. */
static bool code_fits(const struct rule *r, const char *code, enum agt_place place)
{
	if (r->code)
		return code && !strcasecmp(r->code, code);
	return place == AGT_AT_CHECK || (code && !strncasecmp(code, "SMS.", 4));
}

enum agt_remedy agt_rule_find(const char *code, enum agt_place place, agt_used_t used)
{
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
		const struct rule *r = &rules[i];

		if (!(r->places & place) || (r->needs && !(r->needs & used)))
			continue;
		if (!code_fits(r, code, place))
			continue;
		if (agt_remedy_once(r->remedy) && (used & 1u << r->remedy))
			continue;
		return r->remedy;
	}
	return AGT_NO_RULE;
}

bool agt_remedy_once(enum agt_remedy r)
{
	return remedies[r].once;
}

const char *agt_remedy_name(enum agt_remedy r)
{
	return remedies[r].name;
}

void agt_used_text(agt_used_t used, char *out, size_t size)
{
	size_t n = 0;

	out[0] = '\0';
	for (int i = 0; i < AGT_REMEDIES; i++) {
		int w;

		if (!(used & 1u << i))
			continue;
		w = snprintf(out + n, size - n, "%s%s", n ? " " : "", remedies[i].name);
		if (w < 0 || (size_t)w >= size - n)
			break;
		n += (size_t)w;
	}
}

agt_used_t agt_used_parse(const char *text)
{
	agt_used_t used = 0;

	for (const char *p = text; *p;) {
		size_t n = strcspn(p, " ");

		for (int i = 0; i < AGT_REMEDIES; i++)
			if (strlen(remedies[i].name) == n && !memcmp(remedies[i].name, p, n))
				used |= 1u << i;
		p += n;
		p += strspn(p, " ");
	}
	return used;
}

enum agt_task_class agt_task_classify(const char *state)
{
	static const struct {
		const char *word;
		enum agt_task_class class;
	} words[] = {
		{ "READY", AGT_TASK_READY },
		{ "MIGRATE_SUCCESS", AGT_TASK_SUCCESS },
		{ "SYNC_SUCCESS", AGT_TASK_SUCCESS },
		{ "MIGRATE_FAIL", AGT_TASK_FAILED },
		{ "SYNC_FAIL", AGT_TASK_FAILED },
		{ "ABORT", AGT_TASK_PAUSED },
		/* Seen in the field, in no document. */
		{ "CUTOVER_FAIL", AGT_TASK_FAILED },
		{ "REPLICATE_FAIL", AGT_TASK_FAILED },
	};

	for (size_t i = 0; state && i < ARRAY_SIZE(words); i++)
		if (!strcasecmp(state, words[i].word))
			return words[i].class;
	return AGT_TASK_LIVE;
}

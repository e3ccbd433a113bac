/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/sourcecheck.h"

#include <errno.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

#include "agent/check.h"
#include "agent/errors.h"
#include "agent/json.h"
#include "agent/rules.h"
#include "agent/sms.h"
#include "agent/source.h"
#include "checks/checks.h"
#include "common/log.h"
#include "common/macro.h"
#include "common/text.h"

#define CHECKS_MAX 128 /* rows of the table of local checks */

/* The first reason why not; OS_VERSION is the one that people look for. */
struct verdict {
	bool usable;
	char name[64];
	char code[AGT_CODE_MAX];
	char message[256];
};

static void say_no(struct verdict *v, const char *name, const char *code, const char *message)
{
	char shown[TEXT_NAME_MAX];

	if (!v->usable && strcmp(name, "OS_VERSION") != 0)
		return;
	v->usable = false;
	snprintf(v->name, sizeof(v->name), "%.63s", text_name(shown, bytes_str(name)));
	snprintf(v->code, sizeof(v->code), "%.63s", text_name(shown, bytes_str(code)));
	snprintf(v->message, sizeof(v->message), "%.255s", text_name(shown, bytes_str(message)));
}

/* ---- what SMS says ---- */

/* NULL: it does not say. */
static const char *result_word(const struct cJSON *check)
{
	static const char *const words[] = { "OK", "WARN", "ERROR" };
	const char *said = agt_json_str(check, "result", "");

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (!strcasecmp(said, words[i]))
			return words[i];
	/* A code says enough. */
	return *agt_json_str(check, "error_code", "") ? words[2] : NULL;
}

static void add_from_sms(const struct cJSON *check, struct cJSON *list, struct verdict *v)
{
	const char *name = agt_json_str(check, "name", "");
	const char *result = result_word(check);
	const char *code = agt_json_str(check, "error_code", "");
	const struct agt_error_row *row = agt_error_find(code);
	const char *message = agt_json_str(check, "error_or_warn", row ? row->meaning : "");
	struct cJSON *o = agt_json_add_object(list);

	agt_json_set_str(o, "name", name);
	agt_json_set_str(o, "result", result);
	agt_json_set_str(o, "sms_code", code);
	agt_json_set_str(o, "value", agt_json_str(check, "error_params", NULL));
	agt_json_set_null(o, "limit");
	agt_json_set_str(o, "unit", "");
	agt_json_set_str(o, "message", message);
	agt_json_set_str(o, "remedy", row ? row->remedy : "");
	agt_json_set_str(o, "origin", "sms");
	agt_json_set_bool(o, "decides", true);
	if (!strcmp(result, "ERROR") &&
	    agt_rule_find(code, AGT_AT_CHECK, 0) == AGT_GO_STAGED)
		say_no(v, name, code, message);
}

/* What SMS's record says of a check. */
static bool says(const struct cJSON *source, const char *name)
{
	for (const struct cJSON *i = agt_json_first(source, "checks"); i; i = agt_json_next(i))
		if (!strcasecmp(agt_json_str(i, "name", ""), name) && result_word(i))
			return true;
	return false;
}

/* The record has the check, but without a result. */
static bool names_only(const struct cJSON *source, const char *name)
{
	for (const struct cJSON *i = agt_json_first(source, "checks"); i; i = agt_json_next(i))
		if (!strcasecmp(agt_json_str(i, "name", ""), name))
			return !result_word(i);
	return false;
}

/* ---- what this host says ---- */

/*
 * Where the record has checks, SMS has judged the source: a further check of ours is told, but
 * does not decide.  What the official agent looks at before it registers is among those, and
 * a source that is registered has passed it.
 */
static int check_here(struct agt_migration *m, bool judged, struct cJSON *list,
		      struct verdict *v, struct err *e)
{
	_cleanup_(agt_json_freep) struct cJSON *o = NULL;
	const char *only[CHECKS_MAX + 1] = { NULL };
	struct chk_report *report = NULL;
	size_t n = 0;
	int r;

	/* What SMS has looked at need not be looked at again; one of them takes its time. */
	for (const struct chk *c = chk_table; judged && c->name && n < CHECKS_MAX; c++)
		if (!c->wanted && !says(m->source, c->name))
			only[n++] = c->name;
	r = agt_source_run_checks(m->o, judged ? only : NULL, &report, e);
	if (r < 0)
		return err_ctx(e, r, "check this host");
	o = agt_check_json(report);
	chk_report_free(report);
	for (const struct cJSON *i = agt_json_first(o, "checks"); i; i = agt_json_next(i)) {
		const char *name = agt_json_str(i, "name", "");
		bool decides = !judged || names_only(m->source, name);
		struct cJSON *copy;

		copy = agt_json_add(list, agt_json_copy(i));
		agt_json_set_str(copy, "origin", "local");
		agt_json_set_bool(copy, "decides", decides);
		if (strcmp(agt_json_str(i, "result", ""), "ERROR") != 0)
			continue;
		if (decides)
			say_no(v, name, agt_json_str(i, "sms_code", ""),
			       agt_json_str(i, "message", ""));
		else
			log_info("%s: %s; SMS's own checks did not object", name,
				 agt_json_str(i, "message", ""));
	}
	return 0;
}

/* ---- both ---- */

static void set_reason(struct agt_migration *m, const struct verdict *v)
{
	snprintf(m->run.incompatible_reason, sizeof(m->run.incompatible_reason), "%s%s%s%s%s",
		 v->name, *v->code ? ": " : "", v->code, *v->message ? ": " : "", v->message);
	snprintf(m->run.fallback_reason, sizeof(m->run.fallback_reason),
		 "source check %s failed%s%s%s", v->name, *v->code ? " (" : "", v->code,
		 *v->code ? ")" : "");
}

int agt_sourcecheck(struct agt_migration *m, bool have_record, bool *ret_usable, struct err *e)
{
	_cleanup_(agt_json_freep) struct cJSON *o = agt_json_object();
	struct verdict v = { .usable = true };
	bool judged = false;
	struct cJSON *list;
	char text[512];
	int r;

	if (have_record && agt_json_count(m->source, "checks") == 0) {
		r = agt_sms_source_detail(m, e);
		if (r < 0)
			return r;
	}
	agt_json_set_str(o, "verdict", "");
	agt_json_set_bool(o, "sms_usable", true);
	agt_json_set_str(o, "source_sms_server_id", have_record ? m->run.source_id : NULL);
	list = agt_json_set_array(o, "checks");
	for (const struct cJSON *i = have_record ? agt_json_first(m->source, "checks") : NULL; i;
	     i = agt_json_next(i)) {
		judged |= result_word(i) != NULL;
		if (result_word(i))
			add_from_sms(i, list, &v);
	}
	r = check_here(m, judged, list, &v, e);
	if (r < 0)
		return r;
	if (v.usable)
		snprintf(text, sizeof(text), "SMS: usable");
	else
		snprintf(text, sizeof(text), "SMS: unusable (%s%s%s) -> staged sync", v.name,
			 *v.code ? ": " : "", v.code);
	agt_json_set_str(o, "verdict", text);
	agt_json_set_bool(o, "sms_usable", v.usable);
	log_info("%s", text);
	agt_migration_tell(m, "# %s", text);
	if (!v.usable)
		set_reason(m, &v);
	*ret_usable = v.usable;
	return agt_migration_write(m, AGT_FILE_CHECKS, o, e);
}

bool agt_is_this_host(const char *given)
{
	char text[256] = "";
	struct ifaddrs *all = NULL;
	bool found = false;

	if (gethostname(text, sizeof(text) - 1) == 0 && !strcasecmp(text, given))
		return true;
	if (getifaddrs(&all) < 0)
		return false;
	for (struct ifaddrs *i = all; i && !found; i = i->ifa_next) {
		socklen_t n = sizeof(struct sockaddr_in);

		if (!i->ifa_addr || (i->ifa_addr->sa_family != AF_INET &&
				     i->ifa_addr->sa_family != AF_INET6))
			continue;
		if (i->ifa_addr->sa_family == AF_INET6)
			n = sizeof(struct sockaddr_in6);
		found = getnameinfo(i->ifa_addr, n, text, sizeof(text), NULL, 0,
				    NI_NUMERICHOST) == 0 &&
			!strcasecmp(text, given);
	}
	freeifaddrs(all);
	return found;
}

int agt_sourcecheck_missing(struct agt_migration *m, struct err *e)
{
	log_info("SMS has no record of this host: registering it");
	return agt_sms_register(m, false, e);
}

int agt_sourcecheck_whose(const struct agt_migration *m, bool have_record, struct err *e)
{
	const char *given = m->run.source_given;

	if (have_record) {
		if (!agt_is_this_host(m->run.source_name) && !agt_is_this_host(m->run.source_ip))
			log_info("the source %s (%s) does not look like this host: a staged sync "
				 "would copy this host",
				 m->run.source_name, m->run.source_ip);
		return 0;
	}
	/* An id that SMS does not know any more may well have been this host's. */
	if (!*given || agt_sms_like_id(given) || agt_is_this_host(given))
		return 0;
	return err_set(e, -ERR_FORBIDDEN,
		       "SMS knows no source with the address or name '%s', and this host is not "
		       "called so: install the SMS-Agent there and start it, or correct "
		       "SOURCE_SERVER_ID",
		       given);
}

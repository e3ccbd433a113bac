/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/macs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "agent/control.h"
#include "agent/json.h"
#include "agent/options.h"
#include "agent/pages.h"
#include "agent/source.h"
#include "agent/sourcecheck.h"
#include "common/io.h"
#include "common/strlist.h"

#define PAGE 200 /* the most that SMS gives */
#define ID_MAX 256

static int call_of(void *arg, const struct agt_call *call, struct agt_reply *ret, struct err *e)
{
	return agt_cloud_call(arg, call, ret, e);
}

/* ---- which record is this host's ---- */

static bool has_id(const struct cJSON *s, const char *id)
{
	return *id && !strcmp(agt_json_str(s, "id", ""), id);
}

static bool is_called(const struct cJSON *s, const char *given)
{
	static const char *const keys[] = { "id", "vm_id", "ip", "ipv6", "name", "hostname" };

	for (size_t i = 0; given && i < ARRAY_SIZE(keys); i++)
		if (*given && !strcasecmp(agt_json_str(s, keys[i], ""), given))
			return true;
	return false;
}

/* "localhost" is what many are called. */
static bool is_everybody(const char *value)
{
	return !*value || !strncasecmp(value, "localhost", 9) || !strncmp(value, "127.", 4) ||
	       !strcmp(value, "::1");
}

static bool is_like_us(const struct cJSON *s)
{
	static const char *const keys[] = { "ip", "ipv6", "name", "hostname" };

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		const char *value = agt_json_str(s, keys[i], "");

		if (!is_everybody(value) && agt_is_this_host(value))
			return true;
	}
	return false;
}

struct self {
	const char *given; /* SOURCE_SERVER_ID */
	char bound[ID_MAX];
	bool bound_is_there;
};

static bool is_own(const struct self *self, const struct cJSON *s)
{
	if (self->bound_is_there)
		return has_id(s, self->bound);
	return is_called(s, self->given) || is_like_us(s);
}

/* ---- reading ---- */

static int add_macs(const struct cJSON *source, struct strlist *macs, struct err *e)
{
	for (const struct cJSON *i = agt_json_first(source, "networks"); i; i = agt_json_next(i)) {
		const char *mac = agt_json_str(i, "mac", "");

		if (*mac && strlist_add(macs, mac, strlen(mac)) < 0)
			return err_sysn(e, -ENOMEM, "MACs of other sources");
	}
	return 0;
}

static int read_one(struct agt_cloud *cloud, const struct cJSON *s, struct strlist *macs,
		    struct err *e)
{
	_cleanup_(agt_reply_fini) struct agt_reply reply = { 0 };
	int r;

	if (agt_json_count(s, "networks"))
		return add_macs(s, macs, e);
	r = agt_cloud_source(cloud, agt_json_str(s, "id", ""), &reply, e);
	/* It was deleted since it was listed. */
	if (r == -ERR_CLOUD && (agt_reply_is(&reply, "SMS.7602") || reply.status == 404))
		return 0;
	return r < 0 ? r : add_macs(reply.body, macs, e);
}

static int read_all(struct agt_cloud *cloud, struct self *self, struct strlist *macs,
		    struct err *e)
{
	const struct agt_list list = {
		.call = { .service = AGT_SMS, .method = "GET", .path = "/v3/sources" },
		.key = "source_servers",
		.limit = PAGE,
	};
	int64_t until = clock_mono_ns() + INT64_C(1000000) * AGT_MACS_TIME_MS;
	_cleanup_(agt_json_freep) struct cJSON *all = NULL;
	size_t asked = 0;
	int r = agt_pages_read(call_of, cloud, &list, &all, e);

	if (r < 0)
		return r;
	for (const struct cJSON *i = agt_json_first(all, ""); i; i = agt_json_next(i))
		self->bound_is_there |= has_id(i, self->bound);
	for (const struct cJSON *i = agt_json_first(all, ""); i; i = agt_json_next(i), asked++) {
		if (is_own(self, i))
			continue;
		if (clock_mono_ns() > until)
			return err_set(e, -ETIME, "SMS has %zu sources, of which %zu could be asked for their MACs in %d s",
				       agt_json_count(all, ""), asked, AGT_MACS_TIME_MS / 1000);
		r = read_one(cloud, i, macs, e);
		if (r < 0)
			return r;
	}
	return 0;
}

int agt_macs_read(const struct agt_options *o, const struct agt_stop *stop,
		  struct strlist *macs, struct err *e)
{
	_cleanup_(agt_control_closep) struct agt_control *control = NULL;
	struct self self = { .given = o->migrate.source };
	int r = agt_source_binding(o->state_dir, self.bound, sizeof(self.bound), e);

	if (r == 0)
		r = agt_control_open(o, stop, NULL, &control, e);
	if (r == 0)
		r = read_all(agt_control_cloud(control), &self, macs, e);
	return r;
}

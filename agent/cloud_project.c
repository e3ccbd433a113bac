/* SPDX-License-Identifier: Apache-2.0 */
/* Regions, the account's projects in them, and the account itself, as IAM tells. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/cloud_parts.h"
#include "agent/json.h"
#include "common/nearest.h"
#include "common/text.h"

#define PROJECTS_SHOWN 12

const char *agt_cloud_domain(const struct agt_cloud *c)
{
	return c->domain_id ? c->domain_id : "";
}

const char *agt_cloud_known_project(const struct agt_cloud *c, const char *region)
{
	if (!region)
		region = c->region;
	if (c->project_id && !strcmp(region, c->region))
		return c->project_id;
	for (size_t i = 0; i + 1 < c->projects.n; i += 2)
		if (!strcmp(c->projects.v[i], region))
			return c->projects.v[i + 1];
	return NULL;
}

static int no_memory(struct err *e)
{
	return err_sysn(e, -ENOMEM, "projects of the account");
}

/* Keep the project that bears the region's very name, and whose account it is. */
static int keep(struct agt_cloud *c, const struct cJSON *body, const char *region,
		struct err *e)
{
	for (const struct cJSON *i = agt_json_first(body, "projects"); i; i = agt_json_next(i)) {
		const char *id = agt_json_str(i, "id", "");
		const char *domain = agt_json_str(i, "domain_id", "");

		if (strcmp(agt_json_str(i, "name", ""), region) != 0 || !*id)
			continue;
		if (strlist_add(&c->projects, region, strlen(region)) < 0)
			return no_memory(e);
		if (strlist_add(&c->projects, id, strlen(id)) < 0) {
			free(c->projects.v[--c->projects.n]);
			return no_memory(e);
		}
		if (!c->domain_id && *domain)
			c->domain_id = strdup(domain);
		return 0;
	}
	return 0;
}

/* The names that there are instead, for the message; best effort. */
static int no_such_region(struct agt_cloud *c, const char *region, struct err *e)
{
	_cleanup_(agt_reply_fini) struct agt_reply reply = { 0 };
	_cleanup_(buf_fini) struct buf list = BUF_INIT;
	struct nearest near = { .word = region };
	const char *best, *names = NULL;
	char name[TEXT_NAME_MAX];
	size_t n = 0;

	if (agt_cloud_call(c, &(struct agt_call){ .service = AGT_IAM, .method = "GET",
						  .path = "/v3/projects" },
			   &reply, NULL) == 0)
		for (const struct cJSON *i = agt_json_first(reply.body, "projects"); i;
		     i = agt_json_next(i)) {
			const char *known = agt_json_str(i, "name", "");

			if (!*known)
				continue;
			nearest_try(&near, known);
			if (n < PROJECTS_SHOWN &&
			    buf_printf(&list, "%s%s", n ? ", " : "",
				       text_name(name, bytes_str(known))) < 0)
				return no_memory(e);
			n++;
		}
	best = nearest_get(&near);
	names = n ? buf_cstr(&list) : NULL;
	return err_set(e, -ERR_USAGE,
		       "region '%s': the account has no project of that name%s%s%s%s%s%s", region,
		       best ? ", did you mean '" : "", best ? best : "", best ? "'?" : "",
		       names ? " (it has " : "", names ? names : "",
		       names ? (n > PROJECTS_SHOWN ? ", ...)" : ")") : "");
}

int agt_cloud_project(struct agt_cloud *c, const char *region, const char **ret,
		      struct err *e)
{
	_cleanup_(agt_reply_fini) struct agt_reply reply = { 0 };
	int r;

	if (!region)
		region = c->region;
	*ret = agt_cloud_known_project(c, region);
	if (*ret)
		return 0;
	r = agt_cloud_check_region(region, e);
	if (r < 0)
		return r;
	r = agt_cloud_call(c,
			   &(struct agt_call){ .service = AGT_IAM,
					       .method = "GET",
					       .path = "/v3/projects",
					       .query = { { "name", region } } },
			   &reply, e);
	if (r == 0)
		r = keep(c, reply.body, region, e);
	if (r < 0)
		return err_ctx(e, r, "find the project of region %s", region);
	*ret = agt_cloud_known_project(c, region);
	return *ret ? 0 : no_such_region(c, region, e);
}

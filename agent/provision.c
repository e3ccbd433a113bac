/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/provision.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/flavor.h"
#include "agent/json.h"
#include "agent/network.h"
#include "agent/sms.h"
#include "agent/source.h"
#include "common/log.h"
#include "common/macro.h"

#define PAGE 200
#define GIB ((int64_t)1 << 30)
#define ROOT_MIN_GIB 40 /* what public images want */
#define ROOT_MAX_GIB 1024
#define DATA_MIN_GIB 10
#define DATA_MAX_GIB 32768
#define DATA_DISKS_MAX 22 /* 23 disks with the system disk: SMS takes no more */
#define MIB_OR_BYTES 10000000 /* a memory figure below this is in MiB, else in bytes */
#define CPU_DEFAULT 2
#define MEMORY_DEFAULT_MIB 4096
#define HIDDEN_POLLS_MAX 30
#define ACTIVE_POLLS_MAX 360 /* an hour at the default interval */
#define NAME_MAX_CHARS 64

static const char *const sold_out[] = { "Ecs.0018", "Ecs.0019", "Ecs.0029", "Ecs.0319" };

static const struct {
	const char *code, *what, *call;
} quotas[] = {
	{ "Ecs.0001", "servers, cores or memory", "POST /v1/{project_id}/cloudservers/delete" },
	{ "Ecs.0013", "public addresses", "DELETE /v1/{project_id}/publicips/{id}" },
	{ "Ecs.0021", "disks", "DELETE /v2/{project_id}/cloudvolumes/{id}" },
};

static bool is_one_of(const char *code, const char *const *codes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!strcasecmp(code, codes[i]))
			return true;
	return false;
}

static bool is_sold_out(const char *code)
{
	return is_one_of(code, sold_out, ARRAY_SIZE(sold_out));
}

/* -ERR_FORBIDDEN for a quota, else failed; e holds what was said. */
static int explain(const char *code, int failed, struct err *e)
{
	char said[ERR_TEXT_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(quotas); i++)
		if (!strcasecmp(code, quotas[i].code)) {
			snprintf(said, sizeof(said), "%s", e->text);
			return err_set(e, -ERR_FORBIDDEN,
				       "the quota of %s is used up: delete what is not used (%s) "
				       "or raise the quota, then run this again: %s",
				       quotas[i].what, quotas[i].call, said);
		}
	return failed;
}

/* ---- the record ---- */

int agt_provision_server(struct agt_migration *m, struct agt_reply *reply, struct err *e)
{
	const char *status;
	int r = agt_migration_call(m,
				   &(struct agt_call){
					   .service = AGT_ECS,
					   .method = "GET",
					   .path = "/v1/{project_id}/cloudservers/{}",
					   .args = { m->run.server_id } },
				   reply, e);

	status = agt_json_str(reply->body, "server.status", "");
	if ((r == 0 && !strcasecmp(status, "DELETED")) || reply->status == 404 ||
	    (r < 0 && agt_reply_is(reply, "Ecs.0614")))
		return err_set(e, -ERR_FORBIDDEN,
			       "the target server %s is gone: begin anew with --restart",
			       m->run.server_id);
	return r;
}

/* The first address of that kind, IPv4. */
static const char *address_of(const struct cJSON *server, const char *type)
{
	const struct cJSON *net = agt_json_first(server, "addresses");

	for (; net; net = agt_json_next(net))
		for (const struct cJSON *i = agt_json_first(net, ""); i; i = agt_json_next(i)) {
			const char *kind = agt_json_str(i, "OS-EXT-IPS:type", "fixed");
			const char *addr = agt_json_str(i, "addr", "");

			if (!strcmp(kind, type) && *addr && !strchr(addr, ':'))
				return addr;
		}
	return "";
}

int agt_provision_look(struct agt_migration *m, struct err *e)
{
	_cleanup_(agt_reply_fini) struct agt_reply reply = { 0 };
	const struct cJSON *server;
	int r;

	if (m->server)
		return 0;
	r = agt_network_project(m, e);
	if (r == 0)
		r = agt_provision_server(m, &reply, e);
	if (r < 0)
		return r;
	server = agt_json_at(reply.body, "server");
	AGT_SET(m->run.private_ip, address_of(server, "fixed"));
	AGT_SET(m->run.eip_address, address_of(server, "floating"));
	AGT_SET(m->run.server_name, agt_json_str(server, "name", ""));
	m->server = agt_json_copy(server);
	return 0;
}

bool agt_provision_volume(const struct agt_migration *m, size_t n, char *ret, size_t size)
{
	static const char *const list = "os-extended-volumes:volumes_attached";
	const struct cJSON *found = NULL, *first = agt_json_first(m->server, list);
	size_t at = 0;

	for (const struct cJSON *i = first; i; i = agt_json_next(i))
		if (agt_json_int(i, "bootIndex", -1) == 0)
			found = i;
	if (!found)
		found = first;
	/* Behind the system disk, the others as they are listed. */
	for (const struct cJSON *i = first, *system = found; i && n > 0; i = agt_json_next(i)) {
		found = NULL;
		if (i != system && ++at == n) {
			found = i;
			break;
		}
	}
	return found && *agt_json_text(found, "id", ret, size);
}

/* ---- what to ask for ---- */

static void source_size(const struct agt_migration *m, int64_t *vcpus, int64_t *ram_mib)
{
	int64_t memory = agt_json_int(m->source, "memory", 0);

	*vcpus = agt_json_int(m->source, "cpu_quantity", 0);
	if (*vcpus <= 0 || *vcpus > 65535)
		*vcpus = CPU_DEFAULT;
	if (memory >= MIB_OR_BYTES)
		memory >>= 20;
	*ram_mib = memory > 0 ? memory : MEMORY_DEFAULT_MIB;
}

static bool is_system_disk(const struct cJSON *d)
{
	const char *use = agt_json_str(d, "device_use", "");

	return agt_json_bool(d, "os_disk", false) || !strcasecmp(use, "OS") ||
	       !strcasecmp(use, "BOOT");
}

static int64_t gib_of(const struct cJSON *disk, int64_t min, int64_t max)
{
	int64_t size = agt_json_int(disk, "size", 0);

	return MIN(MAX((size + GIB - 1) / GIB, min), max);
}

static void put_volumes(const struct agt_migration *m, struct cJSON *server)
{
	const char *type = m->o->migrate.volume_type;
	const char *data_type = m->o->migrate.data_volume_type;
	struct cJSON *root = agt_json_set_object(server, "root_volume"), *data;
	const struct cJSON *first = agt_json_first(m->source, "init_target_server.disks");
	const struct cJSON *system;
	int n = 0;

	if (!first)
		first = agt_json_first(m->source, "disks");
	system = first;
	while (system && !is_system_disk(system))
		system = agt_json_next(system);
	if (!system)
		system = first;
	agt_json_set_str(root, "volumetype", type);
	agt_json_set_int(root, "size", gib_of(system, ROOT_MIN_GIB, ROOT_MAX_GIB));
	data = agt_json_set_array(server, "data_volumes");
	for (const struct cJSON *i = first; i && n < DATA_DISKS_MAX; i = agt_json_next(i)) {
		struct cJSON *v;

		if (i == system)
			continue;
		v = agt_json_add_object(data);
		agt_json_set_str(v, "volumetype", data_type ? data_type : type);
		agt_json_set_int(v, "size", gib_of(i, DATA_MIN_GIB, DATA_MAX_GIB));
		n++;
	}
}

/* 1-64 of letters, digits, '_', '-', '.'; what the source is called, where nobody says more. */
static void name_server(struct agt_migration *m)
{
	const char *given = m->o->migrate.server_name;
	char name[NAME_MAX_CHARS + 1];

	if (*m->run.server_name)
		return;
	if (given) {
		AGT_SET(m->run.server_name, given);
		return;
	}
	snprintf(name, sizeof(name), "%.50s-migrated",
		 *m->run.source_name ? m->run.source_name : "server");
	for (char *p = name; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("_-.", *p))
			*p = '-';
	AGT_SET(m->run.server_name, name);
}

static struct cJSON *server_body(struct agt_migration *m)
{
	const struct agt_run *run = &m->run;
	struct cJSON *body = agt_json_object();
	struct cJSON *server = agt_json_set_object(body, "server"), *o;

	agt_json_set_str(server, "name", run->server_name);
	agt_json_set_str(server, "imageRef", m->o->migrate.image_id);
	agt_json_set_str(server, "flavorRef", run->flavor_id);
	agt_json_set_str(server, "vpcid", run->vpc_id);
	o = agt_json_add_object(agt_json_set_array(server, "nics"));
	agt_json_set_str(o, "subnet_id", run->subnet_id);
	put_volumes(m, server);
	if (*run->eip_id)
		agt_json_set_str(agt_json_set_object(server, "publicip"), "id", run->eip_id);
	o = agt_json_add_object(agt_json_set_array(server, "security_groups"));
	agt_json_set_str(o, "id", run->group_id);
	if (*run->zone)
		agt_json_set_str(server, "availability_zone", run->zone);
	if (m->o->migrate.key_name)
		agt_json_set_str(server, "key_name", m->o->migrate.key_name);
	else if (!strcmp(run->road, "rsync") && m->o->migrate.staged.password_env)
		/* What the staged sync will log in with; SMS would overwrite it. */
		agt_json_set_str(server, "adminPass", m->o->migrate.staged.password_env);
	agt_json_set_int(server, "count", 1);
	o = agt_json_set_object(server, "metadata");
	agt_json_set_str(o, "stager_run", run->run_id);
	return body;
}

/* ---- making it ---- */

static int list_named(struct agt_migration *m, struct cJSON **ret, struct err *e)
{
	return agt_migration_list(m,
				  &(struct agt_list){
					  .call = { .service = AGT_ECS,
						    .method = "GET",
						    .path = "/v1/{project_id}/cloudservers/detail",
						    .query = { { "name", m->run.server_name } } },
					  .key = "servers",
					  .limit = PAGE,
					  .page_numbers = true, /* offset is a page here */
				  },
				  ret, e);
}

/* The ids of servers that have the name already: none of them will be taken for ours. */
static int note_namesakes(struct agt_migration *m, struct err *e)
{
	_cleanup_(agt_json_freep) struct cJSON *all = NULL;
	int r = list_named(m, &all, e);

	m->run.servers_before[0] = '\0';
	if (r == -ERR_CLOUD) {
		/* The client token alone keeps a repetition from making a second one. */
		log_info("%s: namesakes of the server are not known", e->text);
		return 0;
	}
	for (const struct cJSON *i = agt_json_first(all, ""); i && r == 0; i = agt_json_next(i)) {
		if (strcmp(agt_json_str(i, "name", ""), m->run.server_name) != 0)
			continue;
		agt_words_add(m->run.servers_before, sizeof(m->run.servers_before),
			      agt_json_str(i, "id", ""));
		log_info("there is a server named %s already: %s", m->run.server_name,
			 agt_json_str(i, "id", ""));
	}
	return r;
}

static int find_server(struct agt_migration *m, struct err *e)
{
	_cleanup_(agt_json_freep) struct cJSON *all = NULL;
	int r = list_named(m, &all, e);

	for (const struct cJSON *i = agt_json_first(all, ""); i && r == 0; i = agt_json_next(i)) {
		const char *id = agt_json_str(i, "id", "");
		const char *status = agt_json_str(i, "status", "");
		const char *made_by = agt_json_str(i, "metadata.stager_run", m->run.run_id);

		if (strcmp(agt_json_str(i, "name", ""), m->run.server_name) != 0 || !*id ||
		    strcmp(made_by, m->run.run_id) != 0 ||
		    agt_words_have(m->run.servers_before, id) || !strcmp(status, "DELETED") ||
		    !strcmp(status, "ERROR"))
			continue;
		if (AGT_SET(m->run.server_id, id))
			return 1;
	}
	return r;
}

static int post_server(struct agt_migration *m, struct agt_reply *reply, struct err *e)
{
	_cleanup_(agt_json_freep) struct cJSON *body = server_body(m);
	char token[AGT_RUN_ID_SIZE + 24];
	int r;

	snprintf(token, sizeof(token), "%s-%d", m->run.run_id, (int)m->run.server_try);
	r = agt_migration_call(m,
			       &(struct agt_call){ .service = AGT_ECS,
						   .method = "POST",
						   .path = "/v1.1/{project_id}/cloudservers",
						   .body = body,
						   .client_token = token },
			       reply, e);
	if (r < 0)
		return r;
	if (AGT_SET(m->run.job_id, agt_json_str(reply->body, "job_id", "")))
		return 0;
	if (AGT_SET(m->run.server_id,
		    agt_json_str(agt_json_first(reply->body, "serverIds"), "", "")))
		return 0;
	return err_set(e, -ERR_PROTOCOL,
		       "a server was ordered, and neither its job nor its id came back");
}

/* The server that a finished job made. */
static const char *job_server(const struct cJSON *job)
{
	const char *id = agt_json_str(job, "entities.server_id", "");

	for (const struct cJSON *i = agt_json_first(job, "entities.sub_jobs"); i && !*id;
	     i = agt_json_next(i))
		id = agt_json_str(i, "entities.server_id", "");
	return id;
}

/* Wait until the job has made the server.  -EAGAIN: the flavor is sold out. */
static int wait_for_job(struct agt_migration *m, struct err *e)
{
	for (;;) {
		_cleanup_(agt_reply_fini) struct agt_reply reply = { 0 };
		const char *status, *code;
		int r = agt_migration_call(m,
					   &(struct agt_call){ .service = AGT_ECS,
							       .method = "GET",
							       .path = "/v1/{project_id}/jobs/{}",
							       .args = { m->run.job_id } },
					   &reply, e);

		if (r < 0)
			return r;
		status = agt_json_str(reply.body, "status", "");
		code = agt_json_str(reply.body, "error_code", "");
		if (!strcmp(status, "SUCCESS")) {
			if (!AGT_SET(m->run.server_id, job_server(reply.body)))
				return err_set(e, -ERR_PROTOCOL,
					       "job %s made a server and does not tell its id",
					       m->run.job_id);
			return 0;
		}
		if (!strcmp(status, "FAIL")) {
			r = err_set(e, -ERR_CLOUD, "the server was not made: job %s failed: %s %s",
				    m->run.job_id, code,
				    agt_json_str(reply.body, "fail_reason", ""));
			snprintf(m->code, sizeof(m->code), "%s", code);
			m->run.job_id[0] = '\0';
			return is_sold_out(code) ? -EAGAIN : explain(code, r, e);
		}
		r = agt_migration_pause(m, e);
		if (r < 0)
			return r;
	}
}

static int wait_active(struct agt_migration *m, struct err *e)
{
	for (int i = 0; i < ACTIVE_POLLS_MAX; i++) {
		_cleanup_(agt_reply_fini) struct agt_reply reply = { 0 };
		const char *status;
		int r = agt_provision_server(m, &reply, e);

		if (r == -ERR_FORBIDDEN && i < HIDDEN_POLLS_MAX) {
			/* One that is being built may be listed and yet be unknown. */
			r = agt_migration_pause(m, e);
			if (r < 0)
				return r;
			continue;
		}
		if (r < 0)
			return r;
		status = agt_json_str(reply.body, "server.status", "");
		if (!strcmp(status, "ACTIVE") || !strcmp(status, "SHUTOFF"))
			return 0;
		if (!strcmp(status, "ERROR"))
			return err_set(e, -ERR_CLOUD,
				       "the target server %s is in status ERROR: delete it (POST "
				       "/v1/{project_id}/cloudservers/delete), then begin anew with "
				       "--restart",
				       m->run.server_id);
		r = agt_migration_pause(m, e);
		if (r < 0)
			return r;
	}
	return err_set(e, -ERR_CLOUD, "the target server %s does not become ACTIVE",
		       m->run.server_id);
}

static int next_flavor(struct agt_migration *m, const struct cJSON *flavors, struct err *e)
{
	const char *wanted = m->o->migrate.flavor_id;
	struct agt_flavor f;
	int64_t vcpus, ram;

	if (wanted && !agt_words_have(m->run.flavors_refused, wanted) &&
	    AGT_SET(m->run.flavor_id, wanted)) {
		m->run.zone[0] = '\0';
		AGT_SET(m->run.zone, m->o->migrate.zone);
		m->run.server_try++;
		log_info("flavor %s, as configured", wanted);
		return 0;
	}
	source_size(m, &vcpus, &ram);
	if (!agt_flavor_choose(flavors, vcpus, ram, m->o->migrate.zone, m->run.flavors_refused,
			       &f))
		return err_set(e, -ERR_FORBIDDEN,
			       "no flavor for %lld CPUs and %lld MiB is left in %s%s%s (sold out: "
			       "%s): try another zone (migrate.zone) or region, or make the server "
			       "yourself and give it with --existing-target",
			       (long long)vcpus, (long long)ram, m->run.region,
			       m->o->migrate.zone ? " " : "",
			       m->o->migrate.zone ? m->o->migrate.zone : "",
			       *m->run.flavors_refused ? m->run.flavors_refused : "none");
	m->run.zone[0] = '\0';
	AGT_SET(m->run.flavor_id, f.id);
	AGT_SET(m->run.zone, f.zone);
	m->run.server_try++;
	log_info("flavor %s: %lld CPUs, %lld MiB, for a source with %lld and %lld", f.id,
		 (long long)f.vcpus, (long long)f.ram_mib, (long long)vcpus, (long long)ram);
	return 0;
}

static int list_flavors(struct agt_migration *m, struct cJSON **ret, struct err *e)
{
	const char *zone = m->o->migrate.zone;

	return agt_migration_list(
		m,
		&(struct agt_list){
			.call = { .service = AGT_ECS,
				  .method = "GET",
				  .path = "/v1/{project_id}/cloudservers/flavors",
				  .query = { { zone ? "availability_zone" : NULL, zone } } },
			.key = "flavors",
			.limit = PAGE,
			.marker = true,
		},
		ret, e);
}

static int make_server(struct agt_migration *m, struct err *e)
{
	static const struct agt_making making = { "server", find_server, post_server };
	_cleanup_(agt_json_freep) struct cJSON *flavors = NULL;
	bool ordering = !strcmp(m->run.intent, making.what);
	int r = 0;

	name_server(m);
	if (!ordering && m->run.server_try == 0)
		r = note_namesakes(m, e);
	while (r == 0) {
		_cleanup_(agt_reply_fini) struct agt_reply reply = { 0 };

		if (!*m->run.server_id && !*m->run.job_id) {
			if (!ordering && !flavors)
				r = list_flavors(m, &flavors, e);
			/* One that may have been ordered is asked for in the very same words. */
			if (r == 0 && !ordering)
				r = next_flavor(m, flavors, e);
			if (r == 0)
				r = agt_migration_make(m, &making, &reply, e);
			ordering = false;
		}
		if (r == 0 && *m->run.job_id && !*m->run.server_id)
			r = wait_for_job(m, e);
		if (r == 0)
			break;
		if (r != -EAGAIN && !(r == -ERR_CLOUD && is_sold_out(reply.code)))
			return r == -ERR_CLOUD ? explain(reply.code, r, e) : r;
		log_info("flavor %s is not to be had: %s", m->run.flavor_id, e->text);
		agt_words_add(m->run.flavors_refused, sizeof(m->run.flavors_refused),
			      m->run.flavor_id);
		r = agt_migration_save(m, e);
	}
	if (r == 0)
		r = agt_migration_save(m, e);
	return r < 0 ? r : wait_active(m, e);
}

/* How large it is, and what its address is: by its record, else by looking at this host. */
static int know_source(struct agt_migration *m, struct err *e)
{
	int r = 0;

	if (*m->run.source_id)
		return agt_sms_source_detail(m, e);
	if (!m->source)
		r = agt_source_body(m->o, NULL, &m->source, e);
	if (!*m->run.source_name)
		AGT_SET(m->run.source_name, agt_json_str(m->source, "name", ""));
	if (!*m->run.source_ip)
		AGT_SET(m->run.source_ip, agt_json_str(m->source, "ip", ""));
	return r;
}

int agt_provision_target(struct agt_migration *m, struct err *e)
{
	static int (*const steps[])(struct agt_migration *, struct err *) = {
		agt_network_vpc,     agt_network_subnet, agt_network_group,
		agt_network_address, make_server,
	};
	int r = agt_network_project(m, e);

	if (r == 0 && *m->run.existing_target) {
		AGT_SET(m->run.server_id, m->run.existing_target);
		return agt_provision_look(m, e);
	}
	if (r == 0 && !m->o->migrate.image_id)
		return err_set(e, -ERR_USAGE,
			       "no image for the target server: set TARGET_IMAGE_ID or the key "
			       "migrate.image_id, or give a server with --existing-target");
	if (r == 0)
		r = know_source(m, e);
	for (size_t i = 0; i < ARRAY_SIZE(steps) && r == 0; i++)
		r = steps[i](m, e);
	return r;
}

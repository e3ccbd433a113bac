/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/postcheck.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <string.h>

#include "agent/console.h"
#include "agent/json.h"
#include "agent/login.h"
#include "agent/network.h"
#include "agent/provision.h"
#include "common/connect.h"
#include "common/io.h"
#include "common/log.h"
#include "common/macro.h"
#include "common/text.h"

#define HOST_KEYS "/etc/ssh/ssh_host_*_key.pub"
#define HOST_KEYS_FILE "source_known_hosts"
#define HOST_KEY_MAX 16384
#define CONSOLE_LINES "1000"
#define CONSOLE_MAX (1u << 20)
/* Of a connection, where the operator does not say: a part of the pause between two attempts. */
#define CONNECT_MIN_MS 1000u
#define CONNECT_MAX_MS 5000u
#define DENIED_MAX 3 /* logins that the target refuses are tried so often: it may be booting */

enum result {
	OK,
	WARN,
	ERROR,
	SKIPPED,
};

static const char *const result_words[] = { "OK", "WARN", "ERROR", "SKIPPED" };

/* What is known while the rows are filled. */
struct check {
	struct agt_migration *m;
	struct cJSON *list;
	struct agt_login login;
	struct err first; /* the first row that failed */
	bool can_login;
};

static struct cJSON *row(struct check *c, const char *name, enum result result,
			 const char *value, const char *wanted, const char *message)
{
	struct cJSON *o = agt_json_add_object(c->list);

	agt_json_set_str(o, "name", name);
	agt_json_set_str(o, "result", result_words[result]);
	agt_json_set_str(o, "value", value);
	agt_json_set_str(o, "wanted", wanted);
	agt_json_set_str(o, "message", message);
	if (result == ERROR && !c->first.code)
		err_set(&c->first, -ERR_POSTCHECK, "the target did not pass the postcheck: %s: %s",
			name, message);
	if (result == ERROR || result == WARN)
		log_info("postcheck: %s: %s", name, message);
	return o;
}

/* ---- the server, as the cloud sees it ---- */

/* Wait until it runs: a server that SMS has just launched may still be starting. */
static int check_server(struct check *c, struct err *e)
{
	struct agt_migration *m = c->m;
	const char *status = "";

	for (unsigned i = 0; i < m->o->migrate.postcheck_attempts; i++) {
		int r;

		agt_json_free(m->server);
		m->server = NULL;
		r = agt_provision_look(m, e);
		if (r < 0)
			return r;
		status = agt_json_str(m->server, "status", "");
		if (!strcasecmp(status, "ACTIVE"))
			break;
		r = agt_migration_pause(m, e);
		if (r < 0)
			return r;
	}
	if (!strcasecmp(status, "ACTIVE"))
		row(c, "SERVER_ACTIVE", OK, status, "ACTIVE", "");
	else
		row(c, "SERVER_ACTIVE", ERROR, status, "ACTIVE", "the target server does not run");
	return 0;
}

static int check_vpc(struct check *c, struct err *e)
{
	struct agt_migration *m = c->m;
	_cleanup_(agt_reply_fini) struct agt_reply reply = { 0 };
	const char *id = agt_json_str(m->server, "metadata.vpc_id", m->run.vpc_id);
	const char *wanted = m->o->migrate.vpc_name, *name;
	int r;

	if (!*id) {
		row(c, "VPC_NAME", SKIPPED, NULL, wanted, "the server's record names no VPC");
		return 0;
	}
	r = agt_migration_call(m,
			       &(struct agt_call){ .service = AGT_VPC,
						   .method = "GET",
						   .path = "/v1/{project_id}/vpcs/{}",
						   .args = { id } },
			       &reply, e);
	if (r < 0)
		return r;
	name = agt_json_str(reply.body, "vpc.name", "");
	if (!strcmp(name, wanted))
		row(c, "VPC_NAME", OK, name, wanted, "");
	else
		/* A target of the operator's own may be where the operator wants it. */
		row(c, "VPC_NAME", *m->run.existing_target ? WARN : ERROR, name, wanted,
		    "the target is in another VPC");
	return 0;
}

/* The record of the target's public address. */
static int find_address(struct agt_migration *m, struct cJSON **ret, struct err *e)
{
	_cleanup_(agt_json_freep) struct cJSON *all = NULL;
	int r = agt_network_addresses(m, &all, e);

	*ret = NULL;
	for (const struct cJSON *i = agt_json_first(all, ""); i && r == 0; i = agt_json_next(i)) {
		const char *public = agt_json_str(i, "public_ip_address", "");
		const char *private = agt_json_str(i, "private_ip_address", "");
		bool is_it = (*m->run.eip_id &&
			      !strcmp(agt_json_str(i, "id", ""), m->run.eip_id)) ||
			     (*m->run.eip_address && !strcmp(public, m->run.eip_address));

		if (is_it || (!*m->run.eip_id && !*m->run.eip_address && *private &&
			      !strcmp(private, m->run.private_ip))) {
			*ret = agt_json_copy(i);
			break;
		}
	}
	return r;
}

/* Why the address does not lead to the target; NULL: it does. */
static const char *unbound(const struct agt_migration *m, const struct cJSON *ip)
{
	/* ELB and VPN: bound, by way of another thing. */
	static const char *const bound[] = { "ACTIVE", "ELB", "VPN" };
	const char *status = agt_json_str(ip, "status", "");
	const char *private = agt_json_str(ip, "private_ip_address", "");

	if (!ip)
		return "the target has no public address";
	if (*private && *m->run.private_ip && strcmp(private, m->run.private_ip) != 0)
		return "the public address is bound to another private address";
	for (size_t i = 0; i < ARRAY_SIZE(bound); i++)
		if (!strcasecmp(status, bound[i]))
			return NULL;
	/* No word at all: what it is bound to says it as well. */
	if (!*status && (*private || *agt_json_str(ip, "port_id", "")))
		return NULL;
	return "the public address is not bound to the target";
}

static int check_address(struct check *c, struct err *e)
{
	struct agt_migration *m = c->m;
	_cleanup_(agt_json_freep) struct cJSON *ip = NULL;
	unsigned wanted = m->o->migrate.eip_mbps;
	char have[32], want[32];
	int64_t size;
	const char *why;
	int r;

	if (wanted == 0) {
		row(c, "EIP_BOUND", SKIPPED, NULL, NULL, "no public address is wanted");
		return 0;
	}
	r = find_address(m, &ip, e);
	if (r < 0)
		return r;
	why = unbound(m, ip);
	if (why) {
		row(c, "EIP_BOUND", ERROR, ip ? agt_json_str(ip, "status", "") : NULL, "ACTIVE", why);
		return 0;
	}
	AGT_SET(m->run.eip_address, agt_json_str(ip, "public_ip_address", ""));
	row(c, "EIP_BOUND", OK, m->run.eip_address, NULL, "");
	size = agt_json_int(ip, "bandwidth_size", -1);
	snprintf(have, sizeof(have), "%lld", (long long)size);
	snprintf(want, sizeof(want), "%u", wanted);
	if (size < 0)
		row(c, "EIP_BANDWIDTH", WARN, NULL, want, "the bandwidth is not told");
	else if (size >= wanted)
		row(c, "EIP_BANDWIDTH", OK, have, want, "");
	else
		row(c, "EIP_BANDWIDTH", *m->run.existing_target ? WARN : ERROR, have, want,
		    "the public address has less bandwidth than wanted (Mbit/s)");
	return 0;
}

/* All rules of all groups that the server is in. */
static int server_rules(struct agt_migration *m, struct cJSON *all, struct err *e)
{
	const struct cJSON *i = agt_json_first(m->server, "security_groups");
	const char *group = i ? "" : m->run.group_id;

	while (i || *group) {
		_cleanup_(agt_json_freep) struct cJSON *rules = NULL;
		const char *id = i ? agt_json_str(i, "id", "") : group;
		int r = *id ? agt_network_rules(m, id, &rules, e) : 0;

		if (r < 0)
			return r;
		for (const struct cJSON *k = agt_json_first(rules, ""); k; k = agt_json_next(k))
			agt_json_add(all, agt_json_copy(k));
		group = "";
		i = i ? agt_json_next(i) : NULL;
	}
	return 0;
}

static int check_rules(struct check *c, struct err *e)
{
	static const struct {
		const char *name, *direction;
		unsigned port;
	} ways[] = { { "RULES_IN", "ingress", 22 }, { "RULES_OUT", "egress", 22 } };
	_cleanup_(agt_json_freep) struct cJSON *all = agt_json_array();
	struct agt_peers peers;
	int r = agt_network_peers(c->m, &peers, e);

	if (r == 0)
		r = server_rules(c->m, all, e);
	for (size_t i = 0; i < ARRAY_SIZE(ways) && r == 0; i++) {
		char missing[512] = "", message[640];

		for (size_t k = 0; k < peers.n; k++)
			if (!agt_network_allowed(all, ways[i].direction, peers.v[k],
						 ways[i].port))
				agt_words_add(missing, sizeof(missing), peers.v[k]);
		snprintf(message, sizeof(message), "no %s rule for TCP %u and %s",
			 ways[i].direction, ways[i].port, missing);
		if (peers.n == 0)
			row(c, ways[i].name, SKIPPED, NULL, NULL, "no peer is known");
		else if (!*missing)
			row(c, ways[i].name, OK, NULL, NULL, "");
		else
			row(c, ways[i].name, *c->m->run.existing_target ? WARN : ERROR, missing,
			    NULL, message);
	}
	return r;
}

/* What the cloud knows; nothing to ask when the target is no server that we know. */
static int check_cloud(struct check *c, struct err *e)
{
	static const struct {
		const char *name;
		int (*run)(struct check *c, struct err *e);
	} checks[] = {
		{ "SERVER_ACTIVE", check_server },
		{ "VPC_NAME", check_vpc },
		{ "EIP_BOUND", check_address },
		{ "RULES", check_rules },
	};
	int r = 0;

	if (!*c->m->run.server_id) {
		row(c, "SERVER_ACTIVE", SKIPPED, NULL, NULL,
		    "the target is no server whose id is known");
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(checks) && r == 0; i++) {
		r = checks[i].run(c, e);
		/* What the service does not want to tell has not passed. */
		if (r == -ERR_CLOUD) {
			row(c, checks[i].name, ERROR, NULL, NULL, e->text);
			r = 0;
		}
	}
	return r;
}

/* ---- getting in ---- */

static unsigned connect_timeout_ms(const struct agt_migration *m)
{
	unsigned given = m->o->migrate.connect_timeout_ms;

	return given ? given
		     : MIN(MAX(m->o->poll_interval_ms / 2, CONNECT_MIN_MS), CONNECT_MAX_MS);
}

static int check_port(struct check *c, struct err *e)
{
	struct agt_migration *m = c->m;
	char value[AGT_LOGIN_TEXT + 16], name[32];
	struct err why = { 0 };

	snprintf(value, sizeof(value), "%s port %u", c->login.host, c->login.port);
	snprintf(name, sizeof(name), "TCP_%u", c->login.port);
	for (unsigned i = 0; i < m->o->migrate.postcheck_attempts; i++) {
		_cleanup_close_ int fd = -1;
		int r;

		if (agt_stop_asked(m->stop))
			return err_set(e, -ERR_CANCELLED, "stopped by a signal");
		r = connect_tcp(c->login.host, (uint16_t)c->login.port,
				(int)connect_timeout_ms(m), NULL, &fd, NULL, &why);
		if (r == 0) {
			row(c, name, OK, value, NULL, "");
			c->can_login = true;
			return 0;
		}
		r = agt_migration_pause(m, e);
		if (r < 0)
			return r;
	}
	row(c, name, ERROR, value, NULL, why.text);
	return 0;
}

/*
 * SMS copies the source's host keys to the target: they are what a login must find there.
 * The file is for ssh; false: there is nothing to write.
 */
static bool write_host_keys(struct check *c, char *path, size_t size)
{
	_cleanup_(buf_fini) struct buf all = BUF_INIT;
	_cleanup_close_ int dir = -1;
	glob_t found = { 0 };
	struct err e = { 0 };
	bool done;

	if (strcmp(c->m->run.road, "sms") != 0)
		return false;
	(void)glob(HOST_KEYS, 0, NULL, &found);
	for (size_t i = 0; i < found.gl_pathc; i++) {
		_cleanup_(buf_fini) struct buf key = BUF_INIT;
		char type[64], text[HOST_KEY_MAX];

		if (io_read_file(AT_FDCWD, found.gl_pathv[i], HOST_KEY_MAX - 1, &key, &e) < 0 ||
		    !buf_cstr(&key) ||
		    sscanf(buf_cstr(&key), "%63s %16383s", type, text) != 2)
			continue;
		if (buf_printf(&all, "[%s]:%u %s %s\n%s %s %s\n", c->login.host, c->login.port,
			       type, text, c->login.host, type, text) < 0)
			break;
	}
	globfree(&found);
	snprintf(path, size, "%s/" HOST_KEYS_FILE, c->m->o->state_dir);
	dir = open(c->m->o->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	done = buf_len(&all) && dir >= 0 &&
	       io_replace_file(dir, HOST_KEYS_FILE, buf_view(&all), 0600, &e) == 0;
	return done;
}

/* Is the host that the login goes to an address of the target, as the cloud knows it? */
static bool is_target(const struct check *c)
{
	const struct agt_run *run = &c->m->run;
	const struct cJSON *net = agt_json_first(c->m->server, "addresses");

	if (!strcmp(c->login.host, run->eip_address) || !strcmp(c->login.host, run->private_ip))
		return true;
	for (; net; net = agt_json_next(net))
		for (const struct cJSON *i = agt_json_first(net, ""); i; i = agt_json_next(i))
			if (!strcasecmp(agt_json_str(i, "addr", ""), c->login.host))
				return true;
	return false;
}

/* An operator may name a host by DNS; but a login at another host than the target says nothing. */
static const char *whose_login(const struct check *c)
{
	if (!*c->m->run.server_id || is_target(c))
		return "";
	log_info("postcheck: the login goes to %s, as configured, which is no address that the "
		 "cloud knows of the target server",
		 c->login.host);
	return "the host is the configured one, and no address that the cloud knows of the server";
}

static int check_login(struct check *c, struct err *e)
{
	struct agt_migration *m = c->m;
	_cleanup_(buf_fini) struct buf said = BUF_INIT;
	char keys[4096], value[AGT_LOGIN_TEXT * 2 + 32], message[ERR_TEXT_MAX + TEXT_NAME_MAX];
	char line[TEXT_NAME_MAX] = "";
	bool more = write_host_keys(c, keys, sizeof(keys));
	struct err why = { 0 };
	unsigned denied = 0;

	snprintf(value, sizeof(value), "%s@%s port %u", c->login.user, c->login.host,
		 c->login.port);
	for (unsigned i = 0; i < m->o->migrate.postcheck_attempts && denied < DENIED_MAX; i++) {
		int r;

		buf_clear(&said);
		r = agt_login_try(&c->login, more ? keys : NULL, connect_timeout_ms(m),
				  m->ctx->envp, m->stop, &said, &why);
		if (r == 0) {
			row(c, "SSH_LOGIN", OK, value, NULL, whose_login(c));
			return 0;
		}
		if (r == -ERR_CANCELLED)
			return err_set(e, r, "%s", why.text);
		agt_login_last_line(&said, line);
		if (r == -ENOENT || strstr(line, "ermission denied") ||
		    strstr(line, "Host key verification failed") || (r != -ERR_SSH && r != -ETIMEDOUT))
			denied++;
		r = agt_migration_pause(m, e);
		if (r < 0)
			return r;
	}
	snprintf(message, sizeof(message), "%s%s%s", why.text, *line ? ": " : "", line);
	row(c, "SSH_LOGIN", ERROR, value, NULL, message);
	c->can_login = false;
	return 0;
}

/* ---- what the console says ---- */

static int fetch_console(struct agt_migration *m, struct agt_reply *reply, struct err *e)
{
	_cleanup_(agt_json_freep) struct cJSON *body = NULL;
	int r = agt_migration_call(
		m,
		&(struct agt_call){
			.service = AGT_ECS,
			.method = "GET",
			.path = "/v1/{project_id}/cloudservers/{}/console-output",
			.args = { m->run.server_id },
			.query = { { "length", CONSOLE_LINES } } },
		reply, e);

	if (r == 0 || (r != -ERR_CLOUD && reply->status != 404))
		return r;
	/* Regions that have only the older call. */
	body = agt_json_object();
	agt_json_set_str(agt_json_set_object(body, "os-getConsoleOutput"), "length", CONSOLE_LINES);
	return agt_migration_call(m,
				  &(struct agt_call){
					  .service = AGT_ECS,
					  .method = "POST",
					  .path = "/v2.1/{project_id}/servers/{}/action",
					  .args = { m->run.server_id },
					  .body = body,
					  .reads = true,
					  .repeatable = true },
				  reply, e);
}

static int save_console(struct agt_migration *m, const char *text, struct cJSON *o,
			struct err *e)
{
	_cleanup_close_ int dir = open(m->o->out_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char name[64];
	int r;

	/* It has no place for a run id inside, so its name has it. */
	snprintf(name, sizeof(name), "console_output.%s.txt", m->run.run_id);
	if (dir < 0)
		return err_sys(e, "open %s", m->o->out_dir);
	r = io_replace_file(dir, name, bytes_of(text, MIN(strlen(text), (size_t)CONSOLE_MAX)), 0600,
			    e);
	if (r == 0)
		agt_json_set_str(o, "file", name);
	return r;
}

static int check_console(struct check *c, struct cJSON *content, struct err *e)
{
	const struct agt_console_cause *causes[AGT_CONSOLE_CAUSES_MAX];
	_cleanup_(agt_reply_fini) struct agt_reply reply = { 0 };
	struct cJSON *o = agt_json_set_object(content, "console"), *list;
	const char *text;
	struct err why = { 0 };
	size_t n;
	int r = fetch_console(c->m, &reply, &why);

	if (r == -ERR_CANCELLED || r == -ENOMEM)
		return err_set(e, r, "%s", why.text);
	if (r < 0) {
		agt_json_set_str(o, "error", why.text);
		row(c, "CONSOLE", WARN, NULL, NULL, why.text);
		return 0;
	}
	text = agt_json_str(reply.body, "output", "");
	r = save_console(c->m, text, o, e);
	if (r < 0)
		return r;
	n = agt_console_causes(text, causes);
	list = agt_json_set_array(o, "causes");
	for (size_t i = 0; i < n; i++) {
		struct cJSON *k = agt_json_add_object(list);
		char message[512];

		agt_json_set_str(k, "name", causes[i]->name);
		agt_json_set_str(k, "cause", causes[i]->cause);
		agt_json_set_str(k, "remedy", causes[i]->remedy);
		snprintf(message, sizeof(message), "%s: %s", causes[i]->cause, causes[i]->remedy);
		row(c, "CONSOLE", ERROR, causes[i]->name, NULL, message);
		log_error("the target's console says why (%s): %s; %s", causes[i]->name,
			  causes[i]->cause, causes[i]->remedy);
	}
	if (n == 0)
		row(c, "CONSOLE", WARN, NULL, NULL,
		    "the console output names no known cause: read it");
	return 0;
}

/* ---- all of it ---- */

static int get_in(struct check *c, struct cJSON *content, struct err *e)
{
	struct agt_migration *m = c->m;
	int r = agt_login_find(m->o, &c->login, e);

	if (r < 0)
		return r;
	if (!*c->login.host)
		snprintf(c->login.host, sizeof(c->login.host), "%s",
			 *m->run.eip_address ? m->run.eip_address : m->run.private_ip);
	if (m->dry) {
		agt_migration_tell(m, "# then: log in to %s@%s, port %u", c->login.user,
				   *c->login.host ? c->login.host : "<address>", c->login.port);
		return 0;
	}
	if (!*c->login.host) {
		row(c, "TCP_22", ERROR, NULL, NULL, "the target has no address to connect to");
		return 0;
	}
	r = check_port(c, e);
	if (r == 0 && c->can_login)
		r = check_login(c, e);
	if (r == 0 && !c->can_login && *m->run.server_id)
		r = check_console(c, content, e);
	return r;
}

int agt_postcheck_run(struct agt_migration *m, struct err *e)
{
	struct cJSON *content = agt_json_object();
	struct check c = { .m = m, .list = agt_json_array() };
	int r;

	agt_json_free(m->postcheck);
	m->postcheck = content;
	m->postcheck_passed = false;
	agt_json_set_bool(content, "passed", false);
	agt_json_set_str(content, "target_server_id",
			 *m->run.server_id ? m->run.server_id : NULL);
	agt_json_set(content, "checks", c.list);
	r = check_cloud(&c, e);
	if (r == 0)
		r = get_in(&c, content, e);
	if (r < 0 || m->dry)
		return r;
	m->postcheck_passed = c.first.code == 0;
	agt_json_set_bool(content, "passed", m->postcheck_passed);
	agt_json_set_str(content, "target_eip", *m->run.eip_address ? m->run.eip_address : NULL);
	r = agt_migration_write(m, AGT_FILE_POSTCHECK, content, e);
	if (r < 0 || m->postcheck_passed)
		return r;
	return err_set(e, -ERR_POSTCHECK, "%s", c.first.text);
}

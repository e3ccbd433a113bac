/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of options.  A row that names commands in .only exists when one of them does, so
 * rows of a command come with it.
 */
#include "agent/options.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/command.h"

#define COMMANDS_MAX 32 /* rows of the table of commands, the last one too */
#define HOUR_MS 3600000
#define DAY_MS (24 * HOUR_MS)

enum type {
	TYPE_RESULT_DIR = CFG_OWN, /* environment only: the folder of this file */
	TYPE_NO_SECRET,            /* config only: a key that must not be there */
	TYPE_YES,                  /* bool, as true false yes no on off 1 0 */
	TYPE_DCS_METHOD,           /* full, incremental, or the service's words for them */
	TYPE_RESUME,               /* auto, manual */
};

enum group {
	GROUP_GENERAL,
	GROUP_CONTROL,
	GROUP_COMMAND,
	GROUPS,
};

static const char *const group_titles[GROUPS] = {
	[GROUP_GENERAL] = "General",
	[GROUP_CONTROL] = "Control plane",
	[GROUP_COMMAND] = "Single commands",
};

static const struct cfg_word log_level_words[] = {
	{ "error", LOG_ERROR },
	{ "info", LOG_INFO },
	{ "debug", LOG_DEBUG },
	{ NULL, 0 },
};

static const struct cfg_word method_words[] = {
	{ "auto", AGT_METHOD_AUTO },
	{ "sms", AGT_METHOD_SMS },
	{ "rsync", AGT_METHOD_RSYNC },
	{ NULL, 0 },
};

#define FIELD(f) .off = offsetof(struct agt_options, f)
#define CONTROL(f) .group = GROUP_CONTROL, FIELD(control.f)
#define CHECK(f) .group = GROUP_COMMAND, .only = "check", FIELD(check.f)
#define MIGRATE(f) .group = GROUP_COMMAND, .only = "migrate", FIELD(migrate.f)
#define DAEMON(f) .group = GROUP_COMMAND, .only = "run", FIELD(daemon.f)
#define DCS(f) .group = GROUP_COMMAND, .only = "dcs-migrate", FIELD(dcs.f)

/* clang-format off */
static const struct cfg_row rows[] = {
	{ .name = "config", .arg = "FILE", .type = CFG_STRING, FIELD(config),
	  .help = "config file (default " AGT_CONFIG_DEFAULT ", where there is one)" },
	{ .name = "out", .key = "out", .arg = "DIR", .type = CFG_STRING, FIELD(out_dir),
	  .help = "where result files go (default " AGT_OUT_NAME " below the state directory)" },
	{ .env = "RESULT_PATH", .type = TYPE_RESULT_DIR, FIELD(out_dir),
	  .help = "a result file; all result files go beside it" },
	{ .name = "state-dir", .key = "state_dir", .arg = "DIR", .type = CFG_STRING,
	  FIELD(state_dir), .def = AGT_STATE_DIR_DEFAULT,
	  .help = "what must outlive a run: ids, the state of a migration" },
	{ .name = "poll-interval", .key = "poll_interval", .arg = "SECONDS", .type = CFG_SECONDS,
	  .min = 10, .max = HOUR_MS, FIELD(poll_interval_ms), .def = "10",
	  .help = "pause between two questions to the cloud; fractions are allowed" },
	{ .name = "log-level", .key = "log_level", .arg = "error|info|debug", .type = CFG_ENUM,
	  .words = log_level_words, FIELD(log_level), .def = "info",
	  .help = "what is worth a line in the log" },
	{ .name = "log-file", .key = "log_file", .arg = "FILE", .type = CFG_STRING,
	  FIELD(log_file), .help = "append the log to FILE (default: standard error)" },
	{ .name = "supported-os", .key = "supported_os", .arg = "FILE", .type = CFG_STRING,
	  FIELD(supported_os), .help = "list of the systems that SMS takes, in place of the installed one" },
	{ .name = "help", .type = CFG_ACTION, .value = CFG_HELP,
	  .help = "show this text; after a command, what it takes" },
	{ .name = "version", .type = CFG_ACTION, .value = CFG_VERSION,
	  .help = "show the version" },

	{ .key = "control_plane.ak", .env = "HC_AK", .type = CFG_STRING, CONTROL(ak),
	  .help = "access key" },
	{ .env = "HC_SK", .type = CFG_SECRET, CONTROL(sk_env), .help = "secret key" },
	{ .key = "control_plane.sk_file", .type = CFG_STRING, CONTROL(sk_file),
	  .help = "file (mode 0600) with the secret key" },
	{ .key = "control_plane.sk", .type = TYPE_NO_SECRET, .words = (const struct cfg_word[]){
	  { "sk_file", 0 }, { NULL, 0 } } },
	{ .env = "HC_SECURITY_TOKEN", .type = CFG_SECRET, CONTROL(token_env),
	  .help = "security token of temporary keys" },
	{ .key = "control_plane.security_token_file", .type = CFG_STRING, CONTROL(token_file),
	  .help = "file (mode 0600) with the security token" },
	{ .key = "control_plane.security_token", .type = TYPE_NO_SECRET,
	  .words = (const struct cfg_word[]){ { "security_token_file", 0 }, { NULL, 0 } } },
	{ .key = "control_plane.region", .env = "TARGET_REGION", .type = CFG_STRING,
	  CONTROL(region), .def = AGT_REGION_DEFAULT, .help = "region of the target" },
	{ .key = "control_plane.project_id", .type = CFG_STRING, CONTROL(project_id),
	  .help = "project of that region" },
	{ .key = "control_plane.domain_id", .type = CFG_STRING, CONTROL(domain_id),
	  .help = "the account's id" },
	{ .key = "control_plane.endpoints.sms", .env = "SMS_ENDPOINT", .type = CFG_STRING,
	  CONTROL(endpoint[AGT_SMS]), .help = "URL of SMS; {region} stands for the region" },
	{ .key = "control_plane.endpoints.iam", .env = "IAM_ENDPOINT", .type = CFG_STRING,
	  CONTROL(endpoint[AGT_IAM]), .help = "URL of IAM" },
	{ .key = "control_plane.endpoints.ecs", .env = "ECS_ENDPOINT", .type = CFG_STRING,
	  CONTROL(endpoint[AGT_ECS]), .help = "URL of ECS" },
	{ .key = "control_plane.endpoints.vpc", .env = "VPC_ENDPOINT", .type = CFG_STRING,
	  CONTROL(endpoint[AGT_VPC]), .help = "URL of VPC" },
	{ .key = "control_plane.endpoints.eip", .env = "EIP_ENDPOINT", .type = CFG_STRING,
	  CONTROL(endpoint[AGT_EIP]), .help = "URL of EIP" },
	{ .key = "control_plane.endpoints.dcs", .env = "DCS_ENDPOINT", .type = CFG_STRING,
	  CONTROL(endpoint[AGT_DCS]), .help = "URL of DCS" },
	{ .key = "control_plane.endpoints.smn", .env = "SMN_ENDPOINT", .type = CFG_STRING,
	  CONTROL(endpoint[AGT_SMN]), .help = "URL of SMN" },
	{ .key = "control_plane.proxy.url", .type = CFG_STRING, CONTROL(proxy),
	  .help = "http:// or https:// proxy" },
	{ .key = "control_plane.proxy.user", .type = CFG_STRING, CONTROL(proxy_user),
	  .help = "user of the proxy" },
	{ .key = "control_plane.proxy.password_file", .type = CFG_STRING,
	  CONTROL(proxy_password_file), .help = "file (mode 0600) with that user's password" },
	{ .key = "control_plane.proxy.password", .type = TYPE_NO_SECRET,
	  .words = (const struct cfg_word[]){ { "password_file", 0 }, { NULL, 0 } } },
	{ .key = "control_plane.ca_file", .type = CFG_STRING, CONTROL(ca_file),
	  .help = "certificates of trusted authorities, in place of the system's" },
	{ .key = "control_plane.connect_timeout", .type = CFG_SECONDS, .min = 100, .max = HOUR_MS,
	  CONTROL(connect_timeout_ms), .def = "10", .help = "for a connection" },
	{ .key = "control_plane.timeout", .type = CFG_SECONDS, .min = 100, .max = HOUR_MS,
	  CONTROL(timeout_ms), .def = "60", .help = "for a whole request" },
	{ .key = "control_plane.retries", .type = CFG_NUMBER, .min = 0, .max = 100,
	  CONTROL(retries), .def = "4", .help = "repetitions of a request that failed" },

	{ .name = "json", .type = CFG_FLAG, .group = GROUP_COMMAND, .only = "check status",
	  FIELD(check.json), .help = "print JSON, not a table" },
	{ .name = "only", .arg = "NAME[,NAME...]", .type = CFG_LIST, CHECK(only),
	  .help = "run these checks alone" },
	{ .name = "offline", .type = CFG_FLAG, CHECK(offline),
	  .help = "do not use the network: no check of clock, target and other sources" },
	{ .name = "root", .arg = "DIR", .type = CFG_STRING, CHECK(root),
	  .help = "look at the system below DIR, not at the running one" },
	{ .name = "target", .arg = "SPEC", .type = CFG_STRING, CHECK(target),
	  .help = "can this target of a staged sync be reached, has it room? [user@]host:/root" },
	{ .name = "migration-port", .key = "migration_port", .arg = "N", .type = CFG_NUMBER,
	  .min = 1, .max = 65535, CHECK(migration_port),
	  .help = "port that the migration is to use (default 22)" },
	{ .name = "install-rsync", .type = CFG_FLAG, CHECK(install_rsync),
	  .help = "install rsync first, with the host's package manager" },

	{ .name = "method", .key = "migrate.method", .env = "PREFERRED_MIGRATION_METHOD",
	  .arg = "auto|sms|rsync", .type = CFG_ENUM, .words = method_words, MIGRATE(method),
	  .def = "auto", .help = "auto: SMS, or the staged sync where SMS cannot take the host" },
	{ .name = "dry-run", .type = CFG_FLAG, MIGRATE(dry_run),
	  .help = "print each request that would be made; change nothing" },
	{ .name = "existing-target", .key = "migrate.existing_target", .arg = "ID",
	  .type = CFG_STRING, MIGRATE(existing_target),
	  .help = "server to migrate to, in place of a new one" },
	{ .name = "restart", .type = CFG_FLAG, MIGRATE(restart),
	  .help = "begin anew, whatever an earlier call has left unfinished" },
	{ .key = "migrate.enable_fallback", .env = "ENABLE_RSYNC_FALLBACK", .type = TYPE_YES,
	  .shape = CFG_BOOL, MIGRATE(fallback), .def = "true",
	  .help = "whether the staged sync may take over: true or false" },
	{ .key = "migrate.source", .env = "SOURCE_SERVER_ID", .type = CFG_STRING, MIGRATE(source),
	  .help = "the source: SMS id, VM id, address or name (default: this host)" },
	{ .key = "migrate.source_region", .env = "SOURCE_REGION", .type = CFG_STRING,
	  MIGRATE(source_region), .def = AGT_SOURCE_REGION_DEFAULT,
	  .help = "region of the source, for the result file" },
	{ .key = "migrate.target_region_name", .env = "TARGET_REGION_NAME", .type = CFG_STRING,
	  MIGRATE(region_name), .help = "name of the target's region (default: its id)" },
	{ .key = "migrate.vpc_name", .env = "TARGET_VPC_NAME", .type = CFG_STRING,
	  MIGRATE(vpc_name), .def = "vpc-migration", .help = "VPC of the target, found or made" },
	{ .key = "migrate.vpc_cidr", .env = "TARGET_VPC_CIDR", .type = CFG_STRING, MIGRATE(vpc_cidr),
	  .def = "10.250.0.0/16", .help = "range of a VPC that is made" },
	{ .key = "migrate.subnet_cidr", .env = "TARGET_SUBNET_CIDR", .type = CFG_STRING, MIGRATE(subnet_cidr),
	  .def = "10.250.1.0/24", .help = "range of a subnet that is made" },
	{ .key = "migrate.image_id", .env = "TARGET_IMAGE_ID", .type = CFG_STRING,
	  MIGRATE(image_id), .help = "image of a new target server" },
	{ .key = "migrate.server_name", .env = "TARGET_SERVER_NAME", .type = CFG_STRING,
	  MIGRATE(server_name), .help = "name of a new target server" },
	{ .key = "migrate.zone", .type = CFG_STRING, MIGRATE(zone),
	  .help = "availability zone of a new target server" },
	{ .key = "migrate.key_name", .type = CFG_STRING, MIGRATE(key_name),
	  .help = "SSH key pair of a new target server" },
	{ .key = "migrate.volume_type", .env = "ROOT_VOLUME_TYPE", .type = CFG_STRING,
	  MIGRATE(volume_type), .def = "SSD", .help = "kind of its disks" },
	{ .key = "migrate.data_volume_type", .env = "DATA_VOLUME_TYPE", .type = CFG_STRING,
	  MIGRATE(data_volume_type), .help = "kind of those besides its system disk" },
	{ .key = "migrate.flavor_id", .env = "TARGET_FLAVOR_ID", .type = CFG_STRING,
	  MIGRATE(flavor_id), .help = "its flavor (default: the nearest to the source)" },
	{ .key = "migrate.source_private_ip", .env = "SOURCE_PRIVATE_IP", .type = CFG_STRING,
	  MIGRATE(source_ip), .help = "address of the source that may reach the target, too" },
	{ .key = "migrate.eip_bandwidth_mbps", .env = "EIP_BANDWIDTH_MBPS", .type = CFG_NUMBER,
	  .min = 0, .max = 2000, MIGRATE(eip_mbps), .def = "100",
	  .help = "bandwidth of the public address in Mbit/s; 0: none" },
	{ .key = "migrate.eip_pools", .type = CFG_LIST, MIGRATE(eip_pools),
	  .def = "5_bgp,5_sbgp,5_telcom,5_union", .help = "pools of public addresses, in order" },
	{ .key = "migrate.extra_peer_ips", .env = "EXTRA_PEER_IPS", .type = CFG_LIST,
	  MIGRATE(peers), .help = "addresses besides the source's that may reach the target" },
	{ .key = "migrate.postcheck_attempts", .type = CFG_NUMBER, .min = 1, .max = 1000,
	  MIGRATE(postcheck_attempts), .def = "12",
	  .help = "how often the postcheck tries to log in, a poll interval apart" },
	{ .key = "migrate.postcheck_connect_timeout", .type = CFG_SECONDS, .min = 100,
	  .max = HOUR_MS, MIGRATE(connect_timeout_ms),
	  .help = "for each of its connections (default half a poll interval, 1 to 5)" },
	{ .key = "migrate.notify_topic_urn", .type = CFG_STRING, MIGRATE(topic_urn),
	  .help = "SMN topic to tell of success, failure and waiting" },
	{ .key = "migrate.notify_command", .type = CFG_STRING, MIGRATE(notify_command),
	  .help = "command to run then" },
	{ .key = "migrate.staged.target_host", .env = "RSYNC_TARGET_HOST", .type = CFG_STRING,
	  MIGRATE(staged.host), .help = "target of the staged sync" },
	{ .key = "migrate.staged.target_user", .env = "RSYNC_TARGET_USER", .type = CFG_STRING,
	  MIGRATE(staged.user), .help = "user there" },
	{ .key = "migrate.staged.target_port", .env = "RSYNC_TARGET_PORT", .type = CFG_NUMBER,
	  .min = 1, .max = 65535, MIGRATE(staged.port), .help = "SSH port there" },
	{ .env = "RSYNC_TARGET_PASSWORD", .type = CFG_SECRET, MIGRATE(staged.password_env),
	  .help = "password there" },

	{ .name = "task", .key = "dcs.task_id", .arg = "ID", .type = CFG_STRING, DCS(task_id),
	  .help = "online migration task to configure and follow (default: make one)" },
	{ .key = "dcs.name", .type = CFG_STRING, DCS(name), .def = "stager-dcs-migration",
	  .help = "name of a new task" },
	{ .key = "dcs.vpc_id", .type = CFG_STRING, DCS(vpc_id), .help = "VPC of a new task" },
	{ .key = "dcs.subnet_id", .type = CFG_STRING, DCS(subnet_id),
	  .help = "subnet of a new task" },
	{ .key = "dcs.security_group_id", .type = CFG_STRING, DCS(group_id),
	  .help = "security group of a new task" },
	{ .name = "migration-method", .key = "dcs.migration_method", .arg = "full|incremental",
	  .type = TYPE_DCS_METHOD, DCS(method), .def = "full",
	  .help = "copy once, or go on with what changes" },
	{ .name = "resume-mode", .key = "dcs.resume_mode", .arg = "auto|manual",
	  .type = TYPE_RESUME, DCS(resume_mode), .def = "auto",
	  .help = "after a lost connection: reconnect for ever, or stop" },
	{ .name = "bandwidth-limit", .key = "dcs.bandwidth_limit_mb", .arg = "MB",
	  .type = CFG_NUMBER, .min = 1, .max = 10240, DCS(bandwidth_mb),
	  .help = "megabytes a second, 1 to 10240" },
	{ .name = "source-instance", .key = "dcs.source_instance.id", .arg = "ID",
	  .type = CFG_STRING, DCS(source_id), .help = "instance to migrate from" },
	{ .name = "source-addrs", .key = "dcs.source_instance.addrs", .arg = "HOST:PORT,...",
	  .type = CFG_STRING, DCS(source_addrs), .help = "or its addresses" },
	{ .key = "dcs.source_instance.password_file", .type = CFG_STRING,
	  DCS(source_password_file), .help = "file (mode 0600) with its password" },
	{ .name = "target-instance", .key = "dcs.target_instance.id", .arg = "ID",
	  .type = CFG_STRING, DCS(target_id), .help = "instance to migrate to" },
	{ .name = "target-addrs", .key = "dcs.target_instance.addrs", .arg = "HOST:PORT,...",
	  .type = CFG_STRING, DCS(target_addrs), .help = "or its addresses" },
	{ .key = "dcs.target_instance.password_file", .type = CFG_STRING,
	  DCS(target_password_file), .help = "file (mode 0600) with its password" },
	{ .name = "no-wait", .type = CFG_FLAG, DCS(no_wait),
	  .help = "end as soon as the task is configured" },

	{ .name = "socket", .key = "daemon.socket", .arg = "FILE", .type = CFG_STRING,
	  .group = GROUP_COMMAND, .only = "run status", FIELD(daemon.socket),
	  .def = AGT_SOCKET_DEFAULT, .help = "where the agent that runs answers root" },
	{ .name = "check-interval", .key = "daemon.check_interval", .arg = "SECONDS",
	  .type = CFG_SECONDS, .min = 10, .max = DAY_MS, DAEMON(check_interval_ms), .def = "7200",
	  .help = "how often the checks are run and the hardware is looked at" },
	{ .key = "daemon.checks", .type = CFG_LIST, DAEMON(checks),
	  .help = "the checks to run then; all, when it is not set" },
	{ .key = "daemon.user", .type = CFG_STRING, DAEMON(user), .def = AGT_USER_DEFAULT,
	  .help = "the user to become, when root starts it" },
	{ .key = "daemon.capabilities", .type = CFG_LIST, DAEMON(capabilities),
	  .help = "what to keep besides CAP_DAC_READ_SEARCH" },
	{ .key = "daemon.stager_options", .type = CFG_LIST, DAEMON(stager_options),
	  .help = "options of the stager that it starts" },
};
/* clang-format on */

static const struct cfg_word yes_words[] = {
	{ "true", true }, { "false", false }, { "yes", true }, { "no", false }, { "on", true },
	{ "off", false }, { "1", true },      { "0", false },  { NULL, 0 },
};
static const struct cfg_word dcs_method_words[] = {
	{ "full", 0 },
	{ "incremental", 1 },
	{ "full_amount_migration", 0 },
	{ "incremental_migration", 1 },
	{ NULL, 0 },
};
static const struct cfg_word resume_words[] = {
	{ "auto", 0 },
	{ "manual", 1 },
	{ NULL, 0 },
};

/* The index of text among words, which the row does not have itself: its type is ours. */
static int word_of(const struct cfg_word *words, const char *text, int *ret, struct err *e)
{
	return cfg_word_value(&(struct cfg_row){ .type = CFG_ENUM, .words = words }, text, ret,
			      e);
}

static int apply(struct cfg_parse *c, const struct cfg_row *row, enum cfg_level level,
		 const char *text, const char *origin, bool again, struct err *e)
{
	static const char *const dcs_methods[] = { "full_amount_migration",
						   "incremental_migration" };
	static const char *const resume_modes[] = { "auto", "manual" };
	const char *slash = strrchr(text, '/');
	void *field = (char *)c->base + row->off;
	char lower[16] = "";
	int r, v;

	(void)level;
	(void)origin;
	(void)again;
	switch ((enum type)row->type) {
	case TYPE_NO_SECRET:
		return err_set(e, -ERR_USAGE,
			       "a secret does not belong in this file: put it into a file of mode"
			       " 0600 and name that with the key %s",
			       row->words->name);
	case TYPE_RESULT_DIR:
		if (!slash)
			return cfg_own(c, ".", 1, (const char **)((char *)c->base + row->off), e);
		return cfg_own(c, text, slash == text ? 1 : (size_t)(slash - text),
			       (const char **)((char *)c->base + row->off), e);
	case TYPE_YES:
		/* "True", as other programs write it. */
		for (size_t i = 0; i < sizeof(lower) - 1 && text[i]; i++)
			lower[i] = (char)tolower((unsigned char)text[i]);
		r = word_of(yes_words, lower, &v, e);
		if (r == 0)
			*(bool *)field = v;
		return r;
	case TYPE_DCS_METHOD:
		r = word_of(dcs_method_words, text, &v, e);
		if (r == 0)
			*(const char **)field = dcs_methods[v];
		return r;
	case TYPE_RESUME:
		r = word_of(resume_words, text, &v, e);
		if (r == 0)
			*(const char **)field = resume_modes[v];
		return r;
	}
	return 0;
}

static int begin(struct cfg_parse *c, struct err *e)
{
	struct agt_options *o = c->base;

	(void)e;
	o->control.credentials_dir = cfg_env(c, "CREDENTIALS_DIRECTORY");
	return 0;
}

static int resolve(struct cfg_parse *c, struct err *e)
{
	struct agt_options *o = c->base;
	_cleanup_free_ char *path = NULL;

	/* What a dry run "made" is no news; the requests are. */
	if (o->migrate.dry_run && cfg_level_of(c, "log-level") == CFG_LEVEL_DEFAULT)
		o->log_level = LOG_ERROR;
	if (o->out_dir)
		return 0;
	if (asprintf(&path, "%s/" AGT_OUT_NAME, o->state_dir) < 0) {
		path = NULL;
		return cfg_no_memory(e);
	}
	return cfg_own(c, path, strlen(path), &o->out_dir, e);
}

static const struct cfg_program program = {
	.name = "stager-agent",
	.config_default = AGT_CONFIG_DEFAULT,
	.page = "stager-agent.json(5)",
	.rows = rows,
	.n_rows = ARRAY_SIZE(rows),
	.groups = group_titles,
	.n_groups = GROUPS,
	.command_group = GROUP_COMMAND,
	.begin = begin,
	.apply = apply,
	.resolve = resolve,
};

int agt_options_parse(int argc, char **argv, char **envp, const struct agt_command *commands,
		      struct agt_options *ret, struct err *e)
{
	struct cfg_command names[COMMANDS_MAX] = { 0 };
	struct agt_options o = { 0 };
	struct cfg_parse c = { .program = &program,
			       .commands = names,
			       .base = &o,
			       .owned = &o.owned,
			       .args = &o.args,
			       .text = &o.text };
	int r;

	for (size_t i = 0; commands[i].name; i++) {
		assert(i + 1 < ARRAY_SIZE(names));
		names[i] = (struct cfg_command){ .name = commands[i].name,
						 .summary = commands[i].summary,
						 .takes_args = commands[i].takes_args };
	}
	r = cfg_parse(&c, argc, argv, envp, e);
	o.action = c.action;
	o.command = c.command ? &commands[c.command - names] : NULL;
	o.config = c.config;
	cfg_parse_fini(&c);
	if (r < 0) {
		agt_options_fini(&o);
		return r;
	}
	*ret = o;
	return 0;
}

void agt_options_fini(struct agt_options *o)
{
	if (!o)
		return;
	strlist_fini(&o->args);
	strlist_fini(&o->check.only);
	strlist_fini(&o->migrate.eip_pools);
	strlist_fini(&o->migrate.peers);
	strlist_fini(&o->daemon.checks);
	strlist_fini(&o->daemon.stager_options);
	strlist_fini(&o->daemon.capabilities);
	buf_fini(&o->text);
	strlist_fini(&o->owned);
	*o = (struct agt_options){ 0 };
}

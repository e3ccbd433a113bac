/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of options.  A row that names commands in .only exists when one of them does, so
 * rows of a command come with it.
 */
#include "agent/options.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/command.h"

#define COMMANDS_MAX 32 /* rows of the table of commands, the last one too */
#define HOUR_MS 3600000

enum type {
	TYPE_RESULT_DIR = CFG_OWN, /* environment only: the folder of this file */
	TYPE_NO_SECRET,            /* config only: a key that must not be there */
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

#define FIELD(f) .off = offsetof(struct agt_options, f)
#define CONTROL(f) .group = GROUP_CONTROL, FIELD(control.f)
#define CHECK(f) .group = GROUP_COMMAND, .only = "check", FIELD(check.f)

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

	{ .name = "json", .type = CFG_FLAG, CHECK(json), .help = "print JSON, not a table" },
	{ .name = "only", .arg = "NAME[,NAME...]", .type = CFG_LIST, CHECK(only),
	  .help = "run these checks alone" },
	{ .name = "offline", .type = CFG_FLAG, CHECK(offline),
	  .help = "do not use the network: no check of clock and target" },
	{ .name = "root", .arg = "DIR", .type = CFG_STRING, CHECK(root),
	  .help = "look at the system below DIR, not at the running one" },
	{ .name = "target", .arg = "HOST[:PORT]", .type = CFG_STRING, CHECK(target),
	  .help = "can this target of a staged sync be reached?" },
	{ .name = "migration-port", .key = "migration_port", .arg = "N", .type = CFG_NUMBER,
	  .min = 1, .max = 65535, CHECK(migration_port),
	  .help = "port that the migration is to use (default 22)" },
	{ .name = "install-rsync", .type = CFG_FLAG, CHECK(install_rsync),
	  .help = "install rsync first, with the host's package manager" },
};
/* clang-format on */

static int apply(struct cfg_parse *c, const struct cfg_row *row, enum cfg_level level,
		 const char *text, const char *origin, bool again, struct err *e)
{
	const char *slash = strrchr(text, '/');

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
	buf_fini(&o->text);
	strlist_fini(&o->owned);
	*o = (struct agt_options){ 0 };
}

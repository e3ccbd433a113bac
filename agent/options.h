/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/options.h - everything an operator can tell stager-agent: command line, environment,
 * config file.  One table in options.c describes every option; config/option.h says how the
 * levels go together.
 */
#include <stdbool.h>
#include <stddef.h>

#include "agent/cloud.h"
#include "common/buf.h"
#include "common/error.h"
#include "common/log.h"
#include "common/strlist.h"
#include "config/option.h"

#define AGT_CONFIG_DEFAULT "/etc/stager/stager-agent.json"
#define AGT_STATE_DIR_DEFAULT "/var/lib/stager"
#define AGT_OUT_NAME "out"
#define AGT_SOCKET_DEFAULT "/run/stager/agent.sock"
#define AGT_USER_DEFAULT "stager"
#define AGT_SOURCE_REGION_DEFAULT "la-north-2"
#define AGT_REGION_DEFAULT "la-south-2" /* of the target */

struct agt_command;

/* How to reach the services, and as whom.  Keys below "control_plane" in the config file. */
struct agt_control_options {
	const char *ak;         /* ak, HC_AK */
	const char *sk_file;    /* sk_file */
	const char *sk_env;     /* HC_SK: a secret, borrowed from envp */
	const char *token_file; /* security_token_file */
	const char *token_env;  /* HC_SECURITY_TOKEN: a secret, borrowed from envp */
	const char *credentials_dir; /* CREDENTIALS_DIRECTORY, borrowed from envp */

	const char *region; /* of the target: region, TARGET_REGION */
	const char *project_id;
	const char *domain_id;
	const char *endpoint[AGT_SERVICES]; /* endpoints.sms, SMS_ENDPOINT, ...; NULL: default */

	const char *proxy; /* proxy.url */
	const char *proxy_user;
	const char *proxy_password_file;
	const char *ca_file;
	unsigned connect_timeout_ms;
	unsigned timeout_ms;
	unsigned retries; /* after the first attempt; 0: none */
};

/* The command "check". */
struct agt_check_options {
	bool json; /* of the command status, too */
	bool offline;
	bool install_rsync;
	struct strlist only;     /* names, each maybe several with commas between them */
	const char *root;        /* NULL: the running system */
	const char *target;      /* SPEC, as of stager --target */
	unsigned migration_port; /* 0: not given */
};

enum agt_method {
	AGT_METHOD_AUTO, /* SMS, and the staged sync where SMS cannot take the host */
	AGT_METHOD_SMS,
	AGT_METHOD_RSYNC,
};

/* How to reach the target of a staged sync, where stager's own config does not say it. */
struct agt_staged_options {
	const char *host; /* RSYNC_TARGET_HOST */
	const char *user;
	unsigned port;            /* 0: not given */
	const char *password_env; /* RSYNC_TARGET_PASSWORD: a secret, borrowed from envp */
};

/* Of the command migrate.  Keys below "migrate" in the config file. */
struct agt_migrate_options {
	enum agt_method method;
	bool dry_run;
	const char *existing_target; /* id of a server */
	bool restart;                /* drop an unfinished run */
	bool fallback;               /* to the staged sync */

	const char *source; /* SMS id, VM id, address or name; NULL: this host */
	const char *source_region;
	const char *region_name; /* of the target, as SMS shows it; NULL: the region's id */
	const char *vpc_name, *vpc_cidr, *subnet_cidr;
	const char *image_id;
	const char *server_name;
	const char *zone;     /* NULL: any */
	const char *key_name; /* SSH key pair of a new server; NULL: none */
	const char *volume_type;
	const char *data_volume_type; /* of disks besides the system disk; NULL: volume_type */
	const char *flavor_id;        /* to be tried first; NULL: the nearest */
	const char *source_ip;        /* a further address of the source; NULL: none */
	unsigned eip_mbps;        /* 0: no public address */
	struct strlist eip_pools; /* tried in this order */
	struct strlist peers;     /* besides the source */

	unsigned postcheck_attempts; /* of connecting and logging in */
	unsigned connect_timeout_ms; /* of each; 0: by the poll interval */

	const char *topic_urn; /* NULL: none */
	const char *notify_command;

	struct agt_staged_options staged;
};

/* Of the command dcs-migrate.  Keys below "dcs" in the config file. */
struct agt_dcs_options {
	const char *task_id; /* NULL: a new one is made */
	const char *name, *vpc_id, *subnet_id, *group_id; /* of a new one */
	const char *method;      /* full_amount_migration, incremental_migration */
	const char *resume_mode; /* auto, manual */
	unsigned bandwidth_mb;   /* MB/s; 0: no limit */
	const char *source_id, *source_addrs, *source_password_file;
	const char *target_id, *target_addrs, *target_password_file;
	bool no_wait;
};

/* Of the command run, the socket of status, too.  Keys below "daemon" in the config file. */
struct agt_daemon_options {
	const char *socket;
	const char *user; /* to become, when root starts it */
	unsigned check_interval_ms;
	struct strlist checks;         /* those to run; empty: all */
	struct strlist stager_options; /* of the stager that it starts */
	struct strlist capabilities;   /* to keep besides CAP_DAC_READ_SEARCH */
};

/* Strings are owned by this struct unless said otherwise; NULL means "not given". */
struct agt_options {
	enum cfg_action action;
	const struct agt_command *command; /* a row of the caller's table */
	struct strlist args;
	struct buf text;

	const char *config;    /* the file that was read; NULL: none */
	const char *state_dir;
	const char *out_dir;   /* --out, else the folder of RESULT_PATH, else state_dir/out */
	enum log_level log_level;
	const char *log_file;
	unsigned poll_interval_ms;

	const char *supported_os; /* list of systems that SMS takes; NULL: the installed one */

	struct agt_control_options control;
	struct agt_check_options check;
	struct agt_migrate_options migrate;
	struct agt_dcs_options dcs;
	struct agt_daemon_options daemon;

	struct strlist owned; /* what the const char * fields point to */
};

/*
 * Fill *ret from argv (argv[0] is the program), envp and the config file.  argv need not stay;
 * envp must, for the secrets in it.  commands must outlive *ret.  -ERR_USAGE with a text that
 * names option, variable or key.  *ret is the caller's to fini, on success only.
 */
int agt_options_parse(int argc, char **argv, char **envp, const struct agt_command *commands,
		      struct agt_options *ret, struct err *e) _must_check_;
void agt_options_fini(struct agt_options *o); /* NULL is fine */

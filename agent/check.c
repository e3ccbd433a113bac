/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/check.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/artifact.h"
#include "agent/command.h"
#include "agent/control.h"
#include "agent/credentials.h"
#include "agent/json.h"
#include "agent/macs.h"
#include "agent/options.h"
#include "agent/rsync.h"
#include "agent/targetspace.h"
#include "checks/checks.h"
#include "checks/supported.h"
#include "common/io.h"
#include "common/log.h"
#include "common/self.h"
#include "common/text.h"
#include "config/target.h"

int agt_check_supported(const struct agt_options *o, char **ret, struct err *e)
{
	_cleanup_free_ char *prefix = NULL;
	int r;

	if (o->supported_os) {
		*ret = strdup(o->supported_os);
		return *ret ? 0 : err_sysn(e, -ENOMEM, "the list of supported systems");
	}
	r = self_prefix(&prefix, e);
	if (r < 0)
		return r;
	if (asprintf(ret, "%s/share/stager/" CHK_SUPPORTED_NAME, prefix) < 0)
		return err_sysn(e, -ENOMEM, "the list of supported systems");
	return 0;
}

/* --- showing --- */

/* A number where it is one, null where there is nothing. */
static void set_value(struct cJSON *o, const char *name, const char *text, bool number)
{
	if (number)
		agt_json_set_double(o, name, strtod(text, NULL));
	else if (*text)
		agt_json_set_str(o, name, text);
	else
		agt_json_set_null(o, name);
}

struct cJSON *agt_check_json(const struct chk_report *r)
{
	struct cJSON *o = agt_json_object(), *checks;

	agt_json_set_str(o, "verdict", r->verdict);
	agt_json_set_bool(o, "sms_usable", r->sms_usable);
	checks = agt_json_set_array(o, "checks");
	for (size_t i = 0; i < r->n; i++) {
		const struct chk_answer *a = &r->v[i];
		struct cJSON *c = agt_json_add_object(checks);

		agt_json_set_str(c, "name", a->name);
		agt_json_set_str(c, "result", chk_result_name(a->result));
		agt_json_set_str(c, "sms_code", a->sms_code);
		set_value(c, "value", a->value, a->number);
		set_value(c, "limit", a->limit, a->number && *a->limit);
		agt_json_set_str(c, "unit", a->unit);
		agt_json_set_str(c, "message", a->message);
		agt_json_set_str(c, "remedy", a->remedy);
	}
	return o;
}

static const char *variable(char **envp, const char *name)
{
	size_t n = strlen(name);

	for (; envp && *envp; envp++)
		if (!strncmp(*envp, name, n) && (*envp)[n] == '=')
			return *envp + n + 1;
	return "";
}

/* On a terminal that can, unless the user says no (no-color.org). */
static bool wants_colour(char **envp)
{
	return isatty(STDOUT_FILENO) && !*variable(envp, "NO_COLOR") &&
	       strcmp(variable(envp, "TERM"), "dumb") != 0;
}

/* Names of the host's things may hold control bytes: they never reach the terminal. */
static int put_text(struct buf *b, const char *text)
{
	return text_escape(b, bytes_str(text));
}

static int put_row(struct buf *b, const struct chk_answer *a, bool colour)
{
	static const char *const colours[] = { "\033[32m", "\033[33m", "\033[31m" };
	int r = buf_printf(b, "%s%-5s%s  %-18s  ", colour ? colours[a->result] : "",
			   chk_result_name(a->result), colour ? "\033[0m" : "", a->name);

	if (r == 0)
		r = put_text(b, a->message);
	if (r == 0 && a->number && *a->limit)
		r = buf_printf(b, " (limit %s%s%s)", a->limit, *a->unit ? " " : "", a->unit);
	if (r == 0 && *a->sms_code)
		r = buf_printf(b, " [%s]", a->sms_code);
	if (r == 0)
		r = buf_printf(b, "\n");
	if (r == 0 && *a->remedy)
		r = buf_printf(b, "%27s%s\n", "", a->remedy);
	return r;
}

static int put_table(struct buf *b, const struct chk_report *report, bool colour)
{
	int r = 0;

	for (size_t i = 0; i < report->n && r == 0; i++)
		r = put_row(b, &report->v[i], colour);
	return r == 0 ? buf_printf(b, "%s\n", report->verdict) : r;
}

static int show(const struct agt_context *ctx, const struct chk_report *report,
		const struct cJSON *json, struct err *e)
{
	_cleanup_(buf_fini) struct buf b = BUF_INIT;
	int r;

	if (ctx->options->check.json) {
		r = agt_json_print(json, true, &b, e);
		if (r < 0)
			return r;
	} else {
		r = put_table(&b, report, wants_colour(ctx->envp));
	}
	if (r == 0)
		r = io_write_all(STDOUT_FILENO, b.p + b.off, buf_len(&b));
	return r < 0 ? err_sysn(e, r, "write the result") : 0;
}

static int save(const struct agt_options *o, struct cJSON *json, struct err *e)
{
	_cleanup_(agt_artifacts_closep) struct agt_artifacts *a = NULL;
	char run_id[AGT_RUN_ID_SIZE];
	int r = agt_artifacts_open(o->out_dir, agt_run_id(run_id), &a, e);

	if (r == 0)
		r = agt_artifact_write(a, AGT_CHECKS_NAME, json, e);
	return r < 0 ? err_ctx(e, r, "the result is shown but not kept (--out names another place)") : 0;
}

/* --- asking --- */

/* The strings of l, and NULL: the caller's to free(), what it points to is not. */
static const char **ended(const struct strlist *l)
{
	const char **ret = calloc(l->n + 1, sizeof(*ret));

	for (size_t i = 0; ret && i < l->n; i++)
		ret[i] = l->v[i];
	return ret;
}

/* --only may be repeated, and each may hold several. */
static int split_only(const struct strlist *given, struct strlist *names, const char ***ret,
		      struct err *e)
{
	for (size_t i = 0; i < given->n; i++)
		if (strlist_add_csv(names, given->v[i]) < 0)
			return err_sysn(e, -ENOMEM, "--only");
	if (given->n && !names->n)
		return err_set(e, -ERR_USAGE, "--only: no check is named");
	*ret = ended(names);
	return *ret ? 0 : err_sysn(e, -ENOMEM, "--only");
}

static bool asks_for(const char *const *only, const char *name)
{
	for (; only && *only; only++)
		if (!strcmp(*only, name))
			return true;
	return !only;
}

/* What the network told, for as long as the checks run. */
struct asked {
	struct err clock_why, macs_why, space_why;
	struct strlist macs;
	const char **known; /* of macs */
};

static void asked_fini(struct asked *a)
{
	strlist_fini(&a->macs);
	free(a->known);
}

/* Is it worth going on after that answer?  A mistake of the operator's is not, nor a signal. */
static bool ends_all(int r)
{
	return r == -ERR_CANCELLED || r == -ERR_USAGE || r == -ENOMEM;
}

static int ask_clock(const struct agt_context *ctx, struct chk_opts *opts, struct asked *a)
{
	int r = agt_control_clock(ctx->options, ctx->stop, &opts->server_time_s,
				  &opts->server_time_at, &a->clock_why);

	if (r < 0)
		opts->server_time_why = &a->clock_why;
	return r;
}

static int ask_macs(const struct agt_context *ctx, struct chk_opts *opts, struct asked *a)
{
	/* A person waits: one repetition must do. */
	struct agt_options o = *ctx->options;
	int r;

	o.control.retries = MIN(o.control.retries, 1u);
	r = agt_macs_read(&o, ctx->stop, &a->macs, &a->macs_why);
	if (r < 0) {
		err_ctx(&a->macs_why, r, "whether another source has the same MAC");
		opts->known_macs_why = &a->macs_why;
	}
	a->known = ended(&a->macs);
	opts->known_macs = a->known;
	return a->known ? r : err_sysn(&a->macs_why, -ENOMEM, "MACs of other sources");
}

static int ask_space(const struct agt_context *ctx, const struct cfg_target *target,
		     struct chk_opts *opts, struct asked *a)
{
	struct agt_target_space space;
	int r = agt_target_space_ask(ctx, target, &space, &a->space_why);

	if (r < 0) {
		opts->target_space_why = &a->space_why;
		return r;
	}
	opts->target_bytes = MAX(space.bytes, UINT64_C(1));
	opts->target_files = space.files;
	opts->target_begun = space.begun;
	return 0;
}

/* The clock and the MACs of another root are this host's: they would say nothing about that root. */
static int ask_network(const struct agt_context *ctx, struct chk_opts *opts, struct asked *a,
		       struct err *e)
{
	int r = 0;

	if (ctx->options->check.offline || opts->root)
		return 0;
	if (asks_for(opts->only, "CLOCK"))
		r = ask_clock(ctx, opts, a);
	if (ends_all(r))
		return err_set(e, r, "%s", a->clock_why.text);
	if (!asks_for(opts->only, "MAC") || !agt_credentials_given(ctx->options))
		return 0;
	/* Who does not answer once need not be waited for again. */
	if (r < 0 && r != -ERR_PROTOCOL)
		opts->known_macs_why = &a->clock_why;
	else
		r = ask_macs(ctx, opts, a);
	return ends_all(r) ? err_set(e, r, "%s", a->macs_why.text) : 0;
}

static int run_checks(const struct agt_context *ctx, const struct chk_opts *opts,
		      struct chk_report **ret, struct err *e)
{
	const struct agt_check_options *o = &ctx->options->check;
	_cleanup_(cfg_target_fini) struct cfg_target target = { 0 };
	_cleanup_(asked_fini) struct asked asked = { 0 };
	_cleanup_free_ char *supported = NULL;
	struct chk_opts mine = *opts;
	char name[TEXT_NAME_MAX];
	int r;

	if (o->offline && o->target)
		return err_set(e, -ERR_USAGE, "--offline and --target exclude each other");
	if (ctx->options->args.n && (!o->target || strncmp(ctx->options->args.v[0], "--", 2) != 0))
		return err_set(e, -ERR_USAGE, "'%s': check takes options of stager behind \"--\", which say how to log in to --target, and nothing else",
			       text_name(name, bytes_str(ctx->options->args.v[0])));
	r = agt_check_supported(ctx->options, &supported, e);
	if (r == 0 && o->target)
		r = cfg_target_parse(o->target, &target, e);
	if (r < 0)
		return r;
	mine.supported = supported;
	mine.target_host = target.host;
	mine.target_port = target.port;
	if (target.host && asks_for(opts->only, "TARGET_SPACE"))
		r = ask_space(ctx, &target, &mine, &asked);
	if (ends_all(r))
		return err_set(e, r, "%s", asked.space_why.text);
	r = ask_network(ctx, &mine, &asked, e);
	return r < 0 ? r : chk_run(&mine, ret, NULL, e);
}

static void report_free_p(struct chk_report **r)
{
	chk_report_free(*r);
}

static void names_free_p(const char ***v)
{
	free(*v);
}

int agt_check_run(const struct agt_context *ctx, struct err *e)
{
	const struct agt_check_options *o = &ctx->options->check;
	_cleanup_(report_free_p) struct chk_report *report = NULL;
	_cleanup_(agt_json_freep) struct cJSON *json = NULL;
	_cleanup_(strlist_fini) struct strlist names = { 0 };
	_cleanup_(names_free_p) const char **only = NULL;
	struct chk_opts opts = {
		.root = o->root && strcmp(o->root, "/") ? o->root : NULL,
		.port = o->migration_port,
	};
	int r;

	if (o->install_rsync && opts.root)
		return err_set(e, -ERR_USAGE, "--install-rsync installs on the running system, not below --root %s",
			       o->root);
	r = split_only(&o->only, &names, &only, e);
	if (r < 0)
		return r;
	opts.only = names.n ? only : NULL;
	/* What went wrong is told here, and by the check RSYNC. */
	if (o->install_rsync && agt_rsync_install(ctx, e) < 0)
		log_error("%s", e->text);
	r = run_checks(ctx, &opts, &report, e);
	if (r < 0)
		return r;
	json = agt_check_json(report);
	r = show(ctx, report, json, e);
	if (r == 0)
		r = save(ctx->options, json, e);
	if (r < 0)
		return r;
	return report->sms_usable ? 0 : err_exit_status(-ERR_FORBIDDEN);
}

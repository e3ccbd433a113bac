/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/credentials.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/options.h"
#include "common/io.h"
#include "common/secret.h"

#define AK_SHOWN 4
#define AK_MIN 5 /* so that what is shown is not all of it */
#define AK_MAX 128

/* One secret and the places where it may be, the strongest first. */
struct place {
	const char *what; /* "secret key" */
	const char *env;
	const char *env_value;
	const char *credential;
	const char *file;
};

const char *agt_ak_shown(char out[AGT_AK_SHOWN_SIZE], const char *ak)
{
	snprintf(out, AGT_AK_SHOWN_SIZE, "%.*s****", AK_SHOWN, ak);
	return out;
}

/* A key goes into a header: one word of printable characters. */
static int check_word(const char *what, struct bytes b, struct err *e)
{
	for (size_t i = 0; i < b.n; i++)
		if (b.p[i] <= 0x20 || b.p[i] >= 0x7f)
			return err_set(e, -ERR_AUTH,
				       "the %s holds a blank, a line end or another character that"
				       " no key has: is it alone in its place?",
				       what);
	return 0;
}

/* 0 with *ret NULL when it is nowhere. */
static int load(const struct place *p, const char *credentials_dir, struct secret **ret,
		struct err *e)
{
	_cleanup_(secret_freep) struct secret *s = NULL;
	int r = -ENOENT;

	if (p->env_value)
		r = secret_from_env(p->env, p->env_value, &s, e);
	else if (credentials_dir)
		r = secret_from_credential(credentials_dir, p->credential, &s, e);
	if (r == -ENOENT && p->file)
		r = secret_from_file(AT_FDCWD, p->file, &s, e);
	else if (r == -ENOENT)
		return 0;
	if (r == -ENOMEM)
		return r;
	if (r == 0)
		r = check_word(p->what, secret_view(s), e);
	if (r < 0)
		return err_ctx(e, -ERR_AUTH, "%s", p->what);
	*ret = TAKE_PTR(s);
	return 0;
}

static int load_ak(const struct agt_control_options *o, char **ret, struct err *e)
{
	const struct place place = { .what = "access key", .credential = "hc_ak" };
	_cleanup_(secret_freep) struct secret *s = NULL;
	const char *ak = o->ak;
	int r;

	if (!ak) {
		r = load(&place, o->credentials_dir, &s, e);
		if (r < 0)
			return r;
		ak = s ? secret_text(s) : NULL;
	}
	if (!ak)
		return err_set(e, -ERR_AUTH,
			       "no access key: set HC_AK, or control_plane.ak in the config file, or"
			       " the systemd credential hc_ak");
	r = check_word("access key", bytes_str(ak), e);
	if (r < 0)
		return r;
	if (strlen(ak) < AK_MIN || strlen(ak) > AK_MAX || strpbrk(ak, ",="))
		return err_set(e, -ERR_AUTH,
			       "the access key is none: %zu characters, where 20 letters and digits"
			       " are usual",
			       strlen(ak));
	*ret = strdup(ak);
	return *ret ? 0 : err_sysn(e, -ENOMEM, "access key");
}

int agt_credentials_load(const struct agt_options *options, struct agt_credentials *ret,
			 struct err *e)
{
	const struct agt_control_options *o = &options->control;
	const struct place sk = { "secret key", "HC_SK", o->sk_env, "hc_sk", o->sk_file };
	const struct place token = { "security token", "HC_SECURITY_TOKEN", o->token_env,
				     "hc_security_token", o->token_file };
	struct agt_credentials c = { 0 };
	int r = load_ak(o, &c.ak, e);

	if (r == 0)
		r = load(&sk, o->credentials_dir, &c.sk, e);
	if (r == 0 && !c.sk)
		r = err_set(e, -ERR_AUTH,
			    "no secret key: set HC_SK, or name a file of mode 0600 with"
			    " control_plane.sk_file in the config file, or the systemd credential"
			    " hc_sk");
	if (r == 0)
		r = load(&token, o->credentials_dir, &c.token, e);
	if (r < 0) {
		agt_credentials_fini(&c);
		return r;
	}
	*ret = c;
	return 0;
}

bool agt_credentials_given(const struct agt_options *options)
{
	const struct agt_control_options *o = &options->control;
	_cleanup_close_ int dir = -1;

	if (o->ak || o->sk_env || o->sk_file)
		return true;
	if (!o->credentials_dir)
		return false;
	dir = open(o->credentials_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return dir >= 0 && (faccessat(dir, "hc_ak", F_OK, 0) == 0 ||
			    faccessat(dir, "hc_sk", F_OK, 0) == 0);
}

void agt_credentials_fini(struct agt_credentials *c)
{
	if (!c)
		return;
	free(c->ak);
	secret_free(c->sk);
	secret_free(c->token);
	*c = (struct agt_credentials){ 0 };
}

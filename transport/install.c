/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scripts for the target go through the user's login shell, which may be sh, bash, csh or
 * fish, inside of one pair of single quotes to /bin/sh.  So they hold no '!', no backslash and
 * no newline, which csh and fish would touch even there.
 */
#include "transport/install.h"

#include <ctype.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "common/io.h"
#include "common/log.h"
#include "common/sha256.h"
#include "common/shell.h"
#include "common/text.h"
#include "transport/link.h"
#include "transport/session.h"

#define RECEIVER_MAX (64u << 20)
#define OUTPUT_MAX (64u << 10) /* login shells may print that much before us */
#define PROBE_BEGIN "<stager-probe>"
#define PROBE_END "</stager-probe>"
#define DIR_SHELL "\"$HOME\"/.cache/stager"

struct receiver {
	struct buf content; /* empty with remote_path */
	char name[128];
	char hash[SHA256_HEX_SIZE]; /* with remote_path: as found on the target */
	struct buf shell_path;      /* its path as a word of sh */
};

struct probe {
	char os[32], machine[32], uid[16], home[1024], hash[SHA256_HEX_SIZE];
	bool has_sha256sum, present, executable;
};

static void receiver_fini(struct receiver *r)
{
	buf_fini(&r->content);
	buf_fini(&r->shell_path);
}

/* Run a script by /bin/sh whatever the login shell is. */
static int run_script(struct tp_session *s, struct bytes script, struct bytes input,
		      struct buf *out, struct buf *errout, int *ret_status, struct err *e)
{
	_cleanup_(buf_fini) struct buf command = BUF_INIT;
	const char *text;
	int r;

	r = buf_put_bytes(&command, bytes_str("exec /bin/sh -c "));
	if (r == 0)
		r = shell_quote(&command, script);
	text = buf_cstr(&command);
	if (r < 0 || !text)
		return err_set(e, -ENOMEM, "out of memory");
	return tp_session_run(s, text, input, out, errout, OUTPUT_MAX, 0, ret_status, e);
}

/* The beginning and end of what the other side printed, fit for a message. */
static const char *quote(char out[TEXT_NAME_MAX], struct bytes v)
{
	while (v.n && isspace(v.p[v.n - 1]))
		v.n--;
	while (v.n && isspace(*v.p))
		v = bytes_of(v.p + 1, v.n - 1);
	return v.n ? text_name(out, bytes_of(v.p, MIN(v.n, (size_t)300))) : "nothing";
}

/* ---- what the target is ---- */

static void probe_line(struct probe *p, struct bytes line)
{
	const struct {
		const char *key;
		char *to;
		size_t size;
	} rows[] = {
		{ "os=", p->os, sizeof(p->os) },
		{ "machine=", p->machine, sizeof(p->machine) },
		{ "uid=", p->uid, sizeof(p->uid) },
		{ "home=", p->home, sizeof(p->home) },
		{ "hash=", p->hash, sizeof(p->hash) },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		size_t n = strlen(rows[i].key);

		if (line.n >= n && memcmp(line.p, rows[i].key, n) == 0)
			snprintf(rows[i].to, rows[i].size, "%.*s", (int)(line.n - n),
				 (const char *)line.p + n);
	}
	p->has_sha256sum |= bytes_eq(line, bytes_str("sha256sum"));
	p->present |= bytes_eq(line, bytes_str("present"));
	p->executable |= bytes_eq(line, bytes_str("executable"));
}

static int probe_parse(struct tp_session *s, struct bytes out, struct bytes errout, int status,
		       struct probe *p, struct err *e)
{
	char said[TEXT_NAME_MAX], said_err[TEXT_NAME_MAX];
	const uint8_t *from = out.n ? memmem(out.p, out.n, PROBE_BEGIN, strlen(PROBE_BEGIN)) : NULL;
	const uint8_t *to, *nl;

	to = from ? memmem(from, (size_t)(out.p + out.n - from), PROBE_END, strlen(PROBE_END)) : NULL;
	if (!to)
		return err_set(e, -ERR_SSH,
			       "%s: the login shell does not run our commands (exit status %d);"
			       " instead of the answer to a probe it printed: %s; on stderr: %s;"
			       " try 'ssh HOST true' by hand and mend the account's shell or"
			       " start-up files", tp_session_peer(s), status, quote(said, out),
			       quote(said_err, errout));
	*p = (struct probe){ 0 };
	for (; (nl = memchr(from, '\n', (size_t)(to - from))); from = nl + 1)
		probe_line(p, bytes_of(from, (size_t)(nl - from)));
	return 0;
}

static int probe_target(struct tp_session *s, const struct receiver *rcv, struct probe *p,
			struct err *e)
{
	_cleanup_(buf_fini) struct buf script = BUF_INIT, out = BUF_INIT, errout = BUF_INIT;
	int status = 0, r;

	r = buf_printf(&script,
		       "f=%.*s; echo; echo \"" PROBE_BEGIN "\"; echo \"os=$(uname -s)\";"
		       " echo \"machine=$(uname -m)\"; echo \"uid=$(id -u)\"; echo \"home=$HOME\";"
		       " command -v sha256sum >/dev/null 2>&1 && echo sha256sum;"
		       " if [ -f \"$f\" ]; then echo present;"
		       " h=$(sha256sum <\"$f\" 2>/dev/null); echo \"hash=${h%%%% *}\"; fi;"
		       " [ -x \"$f\" ] && echo executable; echo \"" PROBE_END "\"",
		       (int)buf_len(&rcv->shell_path), (const char *)rcv->shell_path.p);
	if (r < 0)
		return err_set(e, -ENOMEM, "out of memory");
	r = run_script(s, buf_view(&script), bytes_of(NULL, 0), &out, &errout, &status, e);
	if (r < 0)
		return err_ctx(e, r, "probe the target");
	return probe_parse(s, buf_view(&out), buf_view(&errout), status, p, e);
}

/* ---- may it run there? ---- */

static const struct {
	const char *machine; /* uname -m begins so */
	uint16_t elf[2];     /* e_machine that runs there */
} machine_table[] = {
	{ "x86_64", { EM_X86_64, EM_386 } },
	{ "i386", { EM_386, EM_386 } },
	{ "i486", { EM_386, EM_386 } },
	{ "i586", { EM_386, EM_386 } },
	{ "i686", { EM_386, EM_386 } },
	{ "aarch64", { EM_AARCH64, EM_AARCH64 } },
	{ "arm64", { EM_AARCH64, EM_AARCH64 } },
	{ "arm", { EM_ARM, EM_ARM } },
	{ "ppc64", { EM_PPC64, EM_PPC64 } },
	{ "s390x", { EM_S390, EM_S390 } },
	{ "riscv64", { EM_RISCV, EM_RISCV } },
	{ "loongarch64", { 258, 258 } }, /* newer than some elf.h */
	{ "mips", { EM_MIPS, EM_MIPS } },
};

static const char *machine_name(uint16_t elf)
{
	for (size_t i = 0; i < ARRAY_SIZE(machine_table); i++)
		if (machine_table[i].elf[0] == elf)
			return machine_table[i].machine;
	return "another CPU";
}

/* e_machine of an ELF file; 0: it is none (say, a script), which the CPU does not matter to. */
static uint16_t elf_machine(struct bytes file)
{
	if (file.n < 20 || memcmp(file.p, ELFMAG, SELFMAG) != 0)
		return 0;
	if (file.p[EI_DATA] == ELFDATA2MSB)
		return (uint16_t)(file.p[18] << 8 | file.p[19]);
	return le16_get(file.p + 18);
}

static int check_target(struct tp_session *s, const struct tp_receiver_opts *o,
			const struct receiver *rcv, const struct probe *p, struct err *e)
{
	uint16_t elf = elf_machine(buf_view(&rcv->content));

	if (strcmp(p->os, "Linux") != 0)
		return err_set(e, -ERR_SSH, "%s: the target runs '%s', not Linux: nothing can be"
			       " synced to it", tp_session_peer(s), p->os);
	if (o->remote_path)
		return 0;
	for (size_t i = 0; elf && i < ARRAY_SIZE(machine_table); i++) {
		const char *m = machine_table[i].machine;

		if (strncmp(p->machine, m, strlen(m)) != 0)
			continue;
		if (elf == machine_table[i].elf[0] || elf == machine_table[i].elf[1])
			break;
		return err_set(e, -ERR_SSH,
			       "%s: the target's CPU is %s, and %s is built for %s; build"
			       " stager-receive for %s, copy it to the target, and give its path there"
			       " by --remote-receiver PATH",
			       tp_session_peer(s), p->machine, o->local_path, machine_name(elf),
			       p->machine);
	}
	if (p->home[0] != '/')
		return err_set(e, -ERR_SSH, "%s: the login user has no home directory (HOME is '%s')"
			       " to put the receiver in: copy it to the target and give"
			       " --remote-receiver PATH", tp_session_peer(s), p->home);
	return 0;
}

/* ---- putting it there ---- */

/* Through a shell: for servers without SFTP, and for a reason that SFTP 3 cannot tell. */
static int upload_by_shell(struct tp_session *s, const struct receiver *rcv, struct err *e)
{
	_cleanup_(buf_fini) struct buf script = BUF_INIT, errout = BUF_INIT;
	char said[TEXT_NAME_MAX];
	int status = 0, r;

	r = buf_printf(&script,
		       "umask 077; f=" DIR_SHELL "/%s; mkdir -p " DIR_SHELL " && cat >\"$f.$$\" &&"
		       " chmod 700 \"$f.$$\" && mv -f \"$f.$$\" \"$f\" ||"
		       " { rm -f \"$f.$$\"; exit 1; }", rcv->name);
	if (r < 0)
		return err_set(e, -ENOMEM, "out of memory");
	r = run_script(s, buf_view(&script), buf_view(&rcv->content), NULL, &errout, &status, e);
	if (r < 0 || status == 0)
		return r;
	return err_set(e, -ERR_SSH, "%s", quote(said, buf_view(&errout)));
}

static int upload(struct tp_session *s, const struct receiver *rcv, const struct probe *p,
		  struct err *e)
{
	_cleanup_(buf_fini) struct buf path = BUF_INIT;
	struct err sftp = { 0 };
	const char *text;
	int r;

	r = buf_printf(&path, "%s/.cache/stager/%s", p->home, rcv->name);
	text = buf_cstr(&path);
	if (r < 0 || !text)
		return err_set(e, -ENOMEM, "out of memory");
	r = tp_session_put(s, text, buf_view(&rcv->content), 0700, &sftp);
	if (r < 0 && r != -ERR_LOST) {
		log_debug("%s; trying it through a shell", sftp.text);
		r = upload_by_shell(s, rcv, e);
	} else if (r < 0 && e) {
		*e = sftp;
	}
	if (r < 0 && r != -ERR_LOST)
		return err_ctx(e, r,
			       "%s: cannot put the receiver in %s (make room there or mend it, or copy"
			       " stager-receive elsewhere and give --remote-receiver PATH)",
			       tp_session_peer(s), text);
	return r;
}

/* Where the target cannot hash: compare all bytes, read back over SFTP. */
static int verify_by_reading(struct tp_session *s, const struct receiver *rcv,
			     const struct probe *p, bool *ret_same, struct err *e)
{
	_cleanup_(buf_fini) struct buf path = BUF_INIT, back = BUF_INIT;
	const char *text;
	int r;

	r = buf_printf(&path, "%s/.cache/stager/%s", p->home, rcv->name);
	text = buf_cstr(&path);
	if (r < 0 || !text)
		return err_set(e, -ENOMEM, "out of memory");
	*ret_same = false;
	if (!p->present)
		return 0;
	r = tp_session_get(s, text, RECEIVER_MAX, &back, e);
	if (r == -EFBIG)
		return 0;
	if (r < 0)
		return err_ctx(e, r, "the target has no sha256sum, so the receiver is read back");
	*ret_same = bytes_eq(buf_view(&back), buf_view(&rcv->content));
	return 0;
}

static int is_right(struct tp_session *s, const struct receiver *rcv, const struct probe *p,
		    bool *ret_same, struct err *e)
{
	if (!p->has_sha256sum)
		return verify_by_reading(s, rcv, p, ret_same, e);
	*ret_same = p->present && strcmp(p->hash, rcv->hash) == 0;
	return 0;
}

/* A dry start tells what mode bits do not: noexec mounts, security modules, a wrong loader. */
static int try_start(struct tp_session *s, const struct receiver *rcv, struct err *e)
{
	_cleanup_(buf_fini) struct buf script = BUF_INIT, errout = BUF_INIT;
	char said[TEXT_NAME_MAX];
	int status = 0, r;

	r = buf_printf(&script, "%.*s --version </dev/null >/dev/null",
		       (int)buf_len(&rcv->shell_path), (const char *)rcv->shell_path.p);
	if (r < 0)
		return err_set(e, -ENOMEM, "out of memory");
	r = run_script(s, buf_view(&script), bytes_of(NULL, 0), NULL, &errout, &status, e);
	if (r < 0 || status == 0)
		return r;
	return err_set(e, -ERR_SSH,
		       "%s: %.*s does not start (exit status %d): %s%s; copy a stager-receive that"
		       " runs there to another place and give --remote-receiver PATH",
		       tp_session_peer(s), (int)buf_len(&rcv->shell_path),
		       (const char *)rcv->shell_path.p, status, quote(said, buf_view(&errout)),
		       status == 126 ? "; is that filesystem mounted noexec?" : "");
}

static int install_ours(struct tp_session *s, const struct tp_receiver_opts *o,
			const struct receiver *rcv, struct probe *p, struct err *e)
{
	bool same = false;
	int r;

	r = is_right(s, rcv, p, &same, e);
	if (r < 0 || (same && p->executable))
		return r;
	r = upload(s, rcv, p, e);
	if (r == 0)
		r = probe_target(s, rcv, p, e);
	if (r == 0)
		r = is_right(s, rcv, p, &same, e);
	if (r < 0)
		return r;
	if (!same)
		return err_set(e, -ERR_SSH,
			       "%s: %s/.cache/stager/%s is not what was sent%s; copy stager-receive to"
			       " another place and give --remote-receiver PATH",
			       tp_session_peer(s), p->home, rcv->name,
			       p->present ? "" : ", it is not there at all (another root for SFTP?)");
	r = try_start(s, rcv, e);
	if (r == 0)
		log_debug("%s: %s installed as ~/.cache/stager/%s", tp_session_peer(s), o->local_path,
			  rcv->name);
	return r;
}

static int check_theirs(struct tp_session *s, const struct tp_receiver_opts *o,
			struct receiver *rcv, const struct probe *p, struct err *e)
{
	if (!p->present)
		return err_set(e, -ERR_SSH, "%s: there is no file %s on the target"
			       " (--remote-receiver)", tp_session_peer(s), o->remote_path);
	memcpy(rcv->hash, p->hash, sizeof(rcv->hash));
	return try_start(s, rcv, e);
}

/* ---- the whole ---- */

static int put_command(const struct receiver *rcv, bool with_hash, struct buf *out)
{
	_cleanup_(buf_fini) struct buf script = BUF_INIT;
	int r;

	r = buf_printf(&script, "f=%.*s; ", (int)buf_len(&rcv->shell_path),
		       (const char *)rcv->shell_path.p);
	if (r == 0 && with_hash)
		r = buf_printf(&script,
			       "h=$(sha256sum <\"$f\"); [ \"${h%%%% *}\" = %s ] ||"
			       " { echo \"stager: $f is not the receiver that was installed:"
			       " its SHA-256 is ${h%%%% *}, not %s\" >&2; exit %d; }; ",
			       rcv->hash, rcv->hash, TP_RECEIVER_CHANGED_STATUS);
	if (r == 0)
		r = buf_put_bytes(&script, bytes_str("exec \"$f\""));
	if (r == 0)
		r = buf_put_bytes(out, bytes_str("exec /bin/sh -c "));
	return r < 0 ? r : shell_quote(out, buf_view(&script));
}

static int receiver_load(const struct tp_receiver_opts *o, struct receiver *rcv, struct err *e)
{
	int r;

	if (o->remote_path) {
		r = shell_quote(&rcv->shell_path, bytes_str(o->remote_path));
		return r < 0 ? err_set(e, r, "out of memory") : 0;
	}
	r = io_read_file(AT_FDCWD, o->local_path, RECEIVER_MAX, &rcv->content, e);
	if (r < 0)
		return err_ctx(e, r, "the receiver to send to the target");
	sha256_hex(rcv->hash, buf_view(&rcv->content));
	for (const char *p = o->version; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr(".-_+~", *p))
			return err_set(e, -ERR_USAGE, "'%s' is no version", o->version);
	snprintf(rcv->name, sizeof(rcv->name), "stager-receive-%.64s-%.16s", o->version, rcv->hash);
	r = buf_printf(&rcv->shell_path, DIR_SHELL "/%s", rcv->name);
	return r < 0 ? err_set(e, r, "out of memory") : 0;
}

int tp_receiver_command(const struct tp_receiver_opts *o, struct buf *ret_command, struct err *e)
{
	_cleanup_(receiver_fini) struct receiver rcv = { 0 };
	int r;

	if (o->remote_path)
		return err_set(e, -ENOTSUP, "%s: its hash is known on the target alone",
			       o->remote_path);
	r = receiver_load(o, &rcv, e);
	if (r == 0 && put_command(&rcv, true, ret_command) < 0)
		r = err_set(e, -ENOMEM, "out of memory");
	return r;
}

int tp_install_receiver(struct tp_session *s, const struct tp_receiver_opts *o,
			struct buf *ret_command, bool *ret_self_checking, struct err *e)
{
	_cleanup_(receiver_fini) struct receiver rcv = { 0 };
	struct probe p = { 0 };
	int r;

	r = receiver_load(o, &rcv, e);
	if (r == 0)
		r = probe_target(s, &rcv, &p, e);
	if (r == 0)
		r = check_target(s, o, &rcv, &p, e);
	if (r == 0)
		r = o->remote_path ? check_theirs(s, o, &rcv, &p, e) :
				     install_ours(s, o, &rcv, &p, e);
	if (r < 0)
		return r;
	if (put_command(&rcv, p.has_sha256sum, ret_command) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	if (ret_self_checking)
		*ret_self_checking = p.has_sha256sum;
	return 0;
}

int tp_remove_receiver(struct tp_session *s, struct err *e)
{
	static const char script[] =
		"cd " DIR_SHELL " 2>/dev/null || exit 0; rm -f ./stager-receive-* && cd .. &&"
		" { rmdir stager 2>/dev/null; exit 0; }";
	_cleanup_(buf_fini) struct buf errout = BUF_INIT;
	char said[TEXT_NAME_MAX];
	int status = 0, r;

	r = run_script(s, bytes_str(script), bytes_of(NULL, 0), NULL, &errout, &status, e);
	if (r == 0 && status)
		r = err_set(e, -ERR_SSH, "%s: remove the receiver: %s", tp_session_peer(s),
			    quote(said, buf_view(&errout)));
	return r;
}

int tp_receiver_explain(const struct tp_exit *x, struct bytes said, struct bytes got,
			struct err *e)
{
	static const struct {
		int status;
		const char *why;
	} rows[] = {
		{ TP_RECEIVER_CHANGED_STATUS, "it was changed after it was installed; run 'stager"
		  " clean', find out who changes it, and start again" },
		{ 126, "it may not be executed (is its filesystem mounted noexec?); give"
		  " --remote-receiver PATH" },
		{ 127, "it is not there" },
	};
	char said_text[TEXT_NAME_MAX], got_text[TEXT_NAME_MAX], how[64];
	const char *why = "it ended before it spoke";

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (x->known && x->status == rows[i].status)
			why = rows[i].why;
	if (!x->known)
		snprintf(how, sizeof(how), "no exit status");
	else if (*x->signal)
		snprintf(how, sizeof(how), "signal %s", x->signal);
	else
		snprintf(how, sizeof(how), "exit status %d", x->status);
	return err_set(e, -ERR_SSH, "the receiver did not start (%s): %s; its stderr: %s; its"
		       " output: %s", how, why, quote(said_text, said), quote(got_text, got));
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The migration port: 22 or one of 10000 to 65535, not one of those that the migration
 * service forbids (server migration workflow, parameter of the source), and not one that a
 * program of the source listens on.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "checks/rows.h"

#define LISTEN 0x0A /* TCP_LISTEN as /proc/net/tcp writes it */

static bool is_forbidden(unsigned port)
{
	static const unsigned forbidden[][2] = { /* from, to */
		{ 135, 135 },	  { 139, 139 },	    { 445, 445 },     { 5357, 5357 },
		{ 5985, 5986 },	  { 8899, 8900 },   { 47001, 47001 }, { 49664, 49666 },
		{ 49668, 49669 }, { 49671, 49671 }, { 49674, 49674 }, { 49677, 49677 },
		{ 49679, 49683 }, { 49685, 49685 }, { 49690, 49691 }, { 49693, 49695 },
		{ 49698, 49713 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(forbidden); i++)
		if (port >= forbidden[i][0] && port <= forbidden[i][1])
			return true;
	return false;
}

/* "  0: 00000000:0016 00000000:0000 0A ..." */
static bool listens(const char *table, unsigned port)
{
	for (const char *line = table; line; line = strchr(line, '\n'), line += line != NULL) {
		unsigned local, state;

		if (sscanf(line, " %*d: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x", &local, &state) ==
			    2 && local == port && state == LISTEN)
			return true;
	}
	return false;
}

int chk_migration_port(const struct chk_env *env, struct chk_answer *ret, struct err *e)
{
	unsigned port = env->opts->port ? env->opts->port : CHK_PORT_DEFAULT;
	_cleanup_(buf_fini) struct buf v4 = BUF_INIT, v6 = BUF_INIT;
	struct err none;
	int r;

	ret->number = false;
	chk_value(ret, "%u", port);
	chk_limit(ret, "22, or 10000-65535 without some");
	if (port != 22 && (port < 10000 || port > 65535))
		return chk_say(ret, CHK_ERROR, "%u is neither 22 nor from 10000 to 65535", port);
	if (is_forbidden(port))
		return chk_say(ret, CHK_ERROR, "%u is one of the ports that may not be used", port);
	/* On 22 it is the target that listens; the source's own sshd is not in the way. */
	if (port == 22)
		return chk_say(ret, CHK_OK, "port 22");
	r = chk_read(env->root, "proc/net/tcp", &v4, e);
	if (r < 0)
		return r;
	if (listens(buf_cstr(&v4), port) ||
	    (chk_read(env->root, "proc/net/tcp6", &v6, &none) == 0 &&
	     listens(buf_cstr(&v6), port)))
		return chk_say(ret, CHK_ERROR, "a program of this host listens on port %u", port);
	return chk_say(ret, CHK_OK, "port %u is allowed and free", port);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network interfaces.  What is a card and what is made of software only is told by sysfs: a
 * card has a device.  Slaves of a bond wear the bond's address, so theirs is the permanent
 * one; the lower half of a pair that shows as two cards (Hyper-V, virtio failover) is none.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "checks/rows.h"
#include "common/sha256.h"

static bool has(const struct chk_root *root, const char *name, const char *what)
{
	char path[300];

	snprintf(path, sizeof(path), "sys/class/net/%s/%s", name, what);
	return chk_exists(root, path);
}

static bool is_nothing(const char *mac)
{
	return !*mac || strspn(mac, "0:") == strlen(mac);
}

/* A card on top of this one means that both are the same. */
static enum chk_nic_kind kind_of(const struct chk_root *root, const char *name)
{
	char path[300], master[64];

	if (!has(root, name, "device"))
		return CHK_NIC_VIRTUAL;
	snprintf(path, sizeof(path), "sys/class/net/%s/master", name);
	if (chk_link_name(root, path, master, sizeof(master)) == 0 && has(root, master, "device"))
		return CHK_NIC_SHADOW;
	return CHK_NIC_PHYSICAL;
}

static const char *mac_of(const struct chk_gather *g, const char *name, enum chk_nic_kind kind)
{
	char path[300], mac[64] = "", *c;
	int r = -ENOENT;

	if (kind == CHK_NIC_PHYSICAL && has(g->root, name, "master")) {
		snprintf(path, sizeof(path), "sys/class/net/%s/bonding_slave/perm_hwaddr", name);
		r = chk_read_line(g->root, path, mac, sizeof(mac));
		if (r < 0 || is_nothing(mac))
			r = g->sys->permanent_mac(g->sys->arg, name, mac);
	}
	if (r < 0 || is_nothing(mac)) {
		snprintf(path, sizeof(path), "sys/class/net/%s/address", name);
		r = chk_read_line(g->root, path, mac, sizeof(mac));
	}
	for (c = mac; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	return r < 0 || is_nothing(mac) ? "" : chk_mem_str(&g->f->mem, mac);
}

static struct chk_nic *nic_named(struct chk_facts *f, const char *name)
{
	for (size_t i = 0; i < f->n_nics; i++)
		if (!strcmp(f->nics[i].name, name))
			return &f->nics[i];
	return NULL;
}

/* The first address of each family; one for this link only is better than none. */
static void take_address(void *arg, const char *interface, int family, const char *address,
			 const char *netmask)
{
	struct chk_facts *f = arg;
	struct chk_nic *n = nic_named(f, interface);

	if (!n)
		return;
	if (family == AF_INET && !*n->ip) {
		n->ip = chk_mem_str(&f->mem, address);
		n->netmask = chk_mem_str(&f->mem, netmask);
	} else if (family == AF_INET6 && (!*n->ipv6 || !strncmp(n->ipv6, "fe80:", 5))) {
		n->ipv6 = chk_mem_str(&f->mem, address);
	}
}

/* "eth0 00000000 0101A8C0 ...": destination and gateway in the machine's byte order, hex. */
static const char *read_gateways(const struct chk_gather *g)
{
	_cleanup_(buf_fini) struct buf b = BUF_INIT;
	const char *first = "";
	char *save = NULL;
	struct err e;

	if (chk_read(g->root, "proc/net/route", &b, &e) < 0)
		return "";
	for (char *line = strtok_r((char *)b.p, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		unsigned destination, gateway;
		struct in_addr in;
		struct chk_nic *n;
		char name[64];

		if (sscanf(line, "%63s %x %x", name, &destination, &gateway) != 3 ||
		    destination != 0)
			continue;
		n = nic_named(g->f, name);
		if (!n || *n->gateway)
			continue;
		in.s_addr = gateway;
		n->gateway = gateway ? chk_mem_str(&g->f->mem, inet_ntoa(in)) : "";
		first = *first ? first : n->name;
	}
	return first;
}

/* Rank of an interface in the list: of the default route, cards, others. */
static unsigned rank(const struct chk_nic *n, const char *first)
{
	return !strcmp(n->name, first) ? 0 : n->kind == CHK_NIC_PHYSICAL ? 1 : 2;
}

static void sort(struct chk_facts *f, const char *first)
{
	/* There are few, and equals keep their order. */
	for (size_t i = 1; i < f->n_nics; i++)
		for (size_t k = i; k > 0 && rank(&f->nics[k], first) < rank(&f->nics[k - 1], first);
		     k--) {
			struct chk_nic n = f->nics[k];

			f->nics[k] = f->nics[k - 1];
			f->nics[k - 1] = n;
		}
}

/* A host of containers has hundreds of interfaces without any address. */
static void drop_idle(struct chk_facts *f)
{
	size_t kept = 0;

	for (size_t i = 0; i < f->n_nics; i++)
		if (f->nics[i].kind != CHK_NIC_VIRTUAL || *f->nics[i].ip || *f->nics[i].ipv6)
			f->nics[kept++] = f->nics[i];
	f->n_nics = kept;
}

int chk_gather_nics(const struct chk_gather *g, struct err *e)
{
	struct strlist l = { 0 };
	int r = chk_list(g->root, "sys/class/net", &l);
	uint64_t mtu;
	char path[300];

	for (size_t i = 0; i < l.n && r == 0; i++) {
		struct chk_nic n = { .ip = "", .netmask = "", .gateway = "", .ipv6 = "" }, *slot;

		/* Files such as bonding_masters are no interfaces. */
		if (!strcmp(l.v[i], "lo") || !has(g->root, l.v[i], "address"))
			continue;
		slot = chk_mem_add(&g->f->mem, &g->f->nics, &g->f->n_nics);
		if (!slot)
			break;
		n.name = chk_mem_str(&g->f->mem, l.v[i]);
		n.kind = kind_of(g->root, n.name);
		n.mac = mac_of(g, n.name, n.kind);
		snprintf(path, sizeof(path), "sys/class/net/%s/mtu", n.name);
		n.mtu = chk_read_u64(g->root, path, &mtu) == 0 ? (unsigned)mtu : 0;
		*slot = n;
	}
	strlist_fini(&l);
	if (r < 0)
		return chk_sys_error(g->root, "sys/class/net", r, e);
	/* Without addresses there is still what sysfs said. */
	(void)g->sys->addresses(g->sys->arg, take_address, g->f);
	sort(g->f, read_gateways(g));
	drop_idle(g->f);
	return 0;
}

/* --- the check --- */

/* Twelve hex digits of a MAC in any notation; false: it is something else. */
static bool digits_of(const char *mac, char ret[13])
{
	size_t n = 0;

	for (; *mac; mac++) {
		if (strchr(":-.", *mac))
			continue;
		if (!isxdigit((unsigned char)*mac) || n == 12)
			return false;
		ret[n++] = (char)tolower((unsigned char)*mac);
	}
	ret[n] = '\0';
	return n == 12;
}

static bool is_known(const char *mac, const char *const *known)
{
	char ours[13], theirs[13], digest[SHA256_HEX_SIZE];

	sha256_hex(digest, bytes_str(mac));
	for (; *known; known++) {
		if (!strcasecmp(*known, digest))
			return true;
		if (digits_of(mac, ours) && digits_of(*known, theirs) && !strcmp(ours, theirs))
			return true;
	}
	return false;
}

/* Where no card is (containers), what has the default route speaks for the host. */
static bool counts(const struct chk_facts *f, size_t i)
{
	bool card = false;

	for (size_t k = 0; k < f->n_nics; k++)
		card |= f->nics[k].kind == CHK_NIC_PHYSICAL && *f->nics[k].mac;
	return *f->nics[i].mac && (card ? f->nics[i].kind == CHK_NIC_PHYSICAL : i == 0);
}

int chk_mac(const struct chk_env *env, struct chk_answer *ret, struct err *e)
{
	const struct chk_facts *f = env->facts;
	const char *const *known = env->opts->known_macs;
	const struct chk_nic *twin = NULL, *other = NULL;

	if (!chk_told(f, CHK_SUBJECT_NICS))
		return chk_untold(env, CHK_SUBJECT_NICS, e);
	for (size_t i = 0; i < f->n_nics; i++) {
		size_t n = strlen(ret->value);

		if (!counts(f, i))
			continue;
		snprintf(ret->value + n, sizeof(ret->value) - n, "%s%s", n ? " " : "",
			 f->nics[i].mac);
		if (known && is_known(f->nics[i].mac, known))
			return chk_say(ret, CHK_ERROR, "another source already has the MAC %s of %s",
				       f->nics[i].mac, f->nics[i].name);
		for (size_t k = 0; k < i; k++) {
			if (!counts(f, k) || strcmp(f->nics[k].mac, f->nics[i].mac) != 0)
				continue;
			twin = &f->nics[k];
			other = &f->nics[i];
		}
	}
	if (!*ret->value)
		return chk_say(ret, CHK_ERROR, "no network card with a MAC was found");
	if (twin)
		return chk_say(ret, CHK_WARN, "%s and %s have the same MAC %s", twin->name,
			       other->name, twin->mac);
	if (env->opts->known_macs_why) {
		*e = *env->opts->known_macs_why;
		return e->code;
	}
	return chk_say(ret, CHK_OK, known ? "the MACs are unique on this host and among the sources of SMS" :
					    "the MACs are unique on this host");
}

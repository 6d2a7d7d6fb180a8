package session

import (
	"tributary.io/gateway/access"
	proto "tributary.io/sdk-plugin/wire"
)

// clientRecord is the record of a client.
type clientRecord struct {
	clientID, username, peer, listener string
	version                            byte
	grant                              access.Grant
}

func (c *Client) append(dst []byte) []byte {
	dst = proto.AppendString(dst, 1, c.ClientID)
	dst = proto.AppendString(dst, 2, c.Username)
	dst = proto.AppendString(dst, 3, c.Peer)
	dst = proto.AppendString(dst, 4, c.listener)
	dst = proto.AppendUint(dst, 5, uint64(c.Version))
	dst, mark := proto.Open(dst, 6, 128)
	return proto.Close(appendGrant(dst, c.Granted()), mark)
}

func (r *clientRecord) parse(b []byte) error {
	f := proto.Read(b, 0)
	for f.Next() {
		switch f.Field() {
		case 1:
			r.clientID = f.Text()
		case 2:
			r.username = f.Text()
		case 3:
			r.peer = f.Text()
		case 4:
			r.listener = f.Text()
		case 5:
			r.version = byte(f.Uint(5))
		case 6:
			if err := parseGrant(f.Bytes(), &r.grant); err != nil {
				return err
			}
		}
	}
	return f.Err()
}

// appendGrant writes the parts of a grant that are needed to renew it.
func appendGrant(dst []byte, g *access.Grant) []byte {
	for i, s := range []string{g.Principal, g.Namespace, g.Method, g.Credential, g.Application, g.Device} {
		dst = proto.AppendString(dst, 1+i, s)
	}
	for i, list := range [][]string{g.Publish, g.Subscribe, g.Read, g.Write} {
		for _, s := range list {
			dst = proto.AppendString(dst, 7+i, s)
		}
	}
	dst = proto.AppendBool(dst, 11, g.Messaging)
	dst = proto.AppendBool(dst, 12, g.PerMessage)
	dst = proto.AppendBool(dst, 13, g.Ask)
	dst = proto.AppendUint(dst, 14, since(g.Expires))
	dst = proto.AppendBool(dst, 15, g.Fixed)
	for i, s := range []string{g.Names.Application, g.Names.Device, g.Names.ClientID, g.Names.Username} {
		dst = proto.AppendString(dst, 16+i, s)
	}
	return dst
}

func parseGrant(b []byte, g *access.Grant) error {
	f := proto.Read(b, 0)
	one := [...]*string{1: &g.Principal, 2: &g.Namespace, 3: &g.Method, 4: &g.Credential, 5: &g.Application, 6: &g.Device,
		16: &g.Names.Application, 17: &g.Names.Device, 18: &g.Names.ClientID, 19: &g.Names.Username}
	lists := [...]*[]string{7: &g.Publish, 8: &g.Subscribe, 9: &g.Read, 10: &g.Write}
	for f.Next() {
		switch n := f.Field(); n {
		case 1, 2, 3, 4, 5, 6, 16, 17, 18, 19:
			*one[n] = f.Text()
		case 7, 8, 9, 10:
			*lists[n] = append(*lists[n], f.Text())
		case 11:
			g.Messaging = f.Bool()
		case 12:
			g.PerMessage = f.Bool()
		case 13:
			g.Ask = f.Bool()
		case 14:
			g.Expires = at(f.Uint64())
		case 15:
			g.Fixed = f.Bool()
		}
	}
	return f.Err()
}

package auth

import (
	"context"
	"errors"

	"github.com/xdg-go/scram"

	"tributary.io/gateway/access"
	"tributary.io/gateway/stage"
)

// scramName is the SASL mechanism of RFC 7677.
const scramName = "SCRAM-SHA-256"

// maxScram bounds the bytes of a client's message.
const maxScram = 4096

// scramMethod has clients prove that they know a password without sending it. It works only
// by enhanced authentication: it accepts no credentials of a CONNECT.
type scramMethod struct{ auth *Auth }

func (*scramMethod) judge(context.Context, *access.Credentials) (*decision, error) {
	return nil, errOther
}

func (m *scramMethod) begin(ctx context.Context, ch *Chain, l link, c *access.Credentials) *scramExchange {
	return &scramExchange{ctx: ctx, chain: ch, link: l, credentials: c}
}

// scramExchange is the server's side of client-first, server-first, client-final and
// server-final (RFC 5802 section 5). An unknown user name fails at the same step as a wrong
// password. Channel binding is not offered.
type scramExchange struct {
	ctx         context.Context // of the exchange
	chain       *Chain
	link        link
	credentials *access.Credentials

	talk     *scram.ServerConversation
	over     bool
	username string
	grant    *access.Grant
	refusal  error // of the directory, for a client that proves the password
	failure  error // why the directory could not decide
}

// Next implements access.Exchange.
func (e *scramExchange) Next(data []byte) ([]byte, *access.Grant, error) {
	answer, g, err := e.next(data)
	if err != nil || g != nil {
		e.over = true
		e.chain.count(e.ctx, e.link, err)
		if refusal := (*stage.Error)(nil); err != nil && !errors.As(err, &refusal) && e.ctx.Err() == nil {
			err = undecidable()
		}
	}
	return answer, g, err
}

func (e *scramExchange) next(data []byte) ([]byte, *access.Grant, error) {
	if e.over || len(data) == 0 || len(data) > maxScram {
		return nil, nil, refusedCredentials()
	}
	if e.talk == nil {
		if err := e.start(); err != nil {
			return nil, nil, err
		}
	}
	answer, err := e.talk.Step(string(data))
	switch {
	case e.failure != nil:
		return nil, nil, e.failure
	case err != nil: // err is dropped: its text may quote what the client sent
		return nil, nil, refusedCredentials()
	case !e.talk.Done():
		if e.credentials.Username != "" && e.credentials.Username != e.talk.Username() || e.talk.AuthzID() != "" &&
			e.talk.AuthzID() != e.talk.Username() {
			return nil, nil, refusedCredentials()
		}
		return []byte(answer), nil, nil
	case !e.talk.Valid() || e.refusal == nil && e.grant == nil:
		return nil, nil, refusedCredentials()
	case e.refusal != nil:
		return nil, nil, e.refusal
	}
	d := &decision{grant: e.grant, username: e.username}
	return []byte(answer), e.chain.finish(e.link, d, e.credentials), nil
}

func (e *scramExchange) start() error {
	server, err := scram.SHA256.NewServer(e.keys)
	if err != nil {
		return err
	}
	e.talk = server.NewConversation()
	return nil
}

// keys looks a user name up.
func (e *scramExchange) keys(username string) (scram.StoredCredentials, error) {
	e.username = username
	salt, stored, server, iterations, g, err := e.chain.auth.dir.Scram(username)
	if len(stored) == 0 || len(server) == 0 || iterations < 1 {
		if e.failure = err; err == nil {
			e.failure = errors.New("the registry has no keys for this exchange")
		}
		return scram.StoredCredentials{}, e.failure
	}
	e.grant, e.refusal = g, err
	return scram.StoredCredentials{
		KeyFactors: scram.KeyFactors{Salt: string(salt), Iters: iterations}, StoredKey: stored, ServerKey: server,
	}, nil
}

package updater

// Resume puts an agent where an explorer wants it: a record in memory, what the session knows, what is on offer, and
// an operator's intent.
func (a *Agent) Resume(r Record, loaded bool, s Session, o Offers, in Intent) {
	a.rec, a.loaded, a.session, a.offers, a.intent = r, loaded, s, o, in
}

// Now returns what Resume takes.
func (a *Agent) Now() (r Record, loaded bool, s Session, in Intent) {
	return a.rec, a.loaded, a.session, a.intent
}

// Mutate replaces the decision.
func (o *Options) Mutate(decide func(Record, View) Step) { o.decide = decide }

// RaiseMinReader lets tests have a later minReader.
func (r *Record) RaiseMinReader(to int) { r.raiseMinReader(to) }
